"""The per-item table of a run (`scores.csv`), read back: columns that are not known here are carried along."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from marssep.errors import InputError

GAIN = "si_sdr_improvement_db"
_TEXT = ("mixture", "query", "present", "label", "group", "system", "modality")
_NEEDED = ("mixture", "query", "present", "label", "system", "modality", GAIN)

Key = tuple[str, int]
"""A query, whoever answers it: id of the mixture and number of the query in it."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Series:
    """Who answered and how the sound was asked for; no modality for systems that see no query."""

    system: str
    modality: str | None = None

    @property
    def name(self) -> str:
        """As in `items.jsonl`: `model/text`, `oracle_grid`."""
        return self.system if self.modality is None else f"{self.system}/{self.modality}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        key: the query.
        present: whether the sound is in the mixture.
        label: class asked for.
        group: family of the class; empty for an absent sound.
        series: who answered, and by which kind of query.
        values: every numeric column by its name; NaN where the cell is empty.
    """

    key: Key
    present: bool
    label: str
    group: str
    series: Series
    values: Mapping[str, float] = field(hash=False)

    def value(self, name: str) -> float:
        """A numeric column, NaN if the table has no such column."""
        return self.values.get(name, math.nan)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """All lines by who answered, in the order of first appearance."""

    rows: Mapping[Series, Mapping[Key, Row]] = field(hash=False)

    @property
    def series(self) -> list[Series]:
        """Everyone who answered."""
        return list(self.rows)

    def present(self, series: Series) -> list[Row]:
        """Answers to queries whose sound is in the mixture and whose score is defined."""
        return [row for row in self._of(series) if row.present and math.isfinite(row.value(GAIN))]

    def absent(self, series: Series) -> list[Row]:
        """Answers to queries whose sound is not in the mixture."""
        return [row for row in self._of(series) if not row.present]

    def find(self, series: Series, key: Key) -> Row | None:
        """One answer, if there is one."""
        return self.rows.get(series, {}).get(key)

    def input_snr(self) -> dict[Key, float]:
        """Level of each target against the rest of its mixture in dB: the SNR of the mixture taken as the estimate."""
        found: dict[Key, float] = {}
        for series in self.series:
            for row in self._of(series):
                snr = row.value("input_snr_db")
                if math.isnan(snr):  # tables written before that column was there
                    snr = row.value("snr_db") - row.value("snr_improvement_db")
                if row.present and row.key not in found and math.isfinite(snr):
                    found[row.key] = snr
        return found

    def _of(self, series: Series) -> Iterator[Row]:
        return iter(self.rows.get(series, {}).values())


def column(rows: list[Row], name: str) -> np.ndarray:
    """One numeric column as float64."""
    return np.array([row.value(name) for row in rows], dtype=np.float64)


def with_presence(rows: list[Row]) -> list[Row]:
    """Those of systems that said how likely the sound is there."""
    return [row for row in rows if np.isfinite(row.value("presence"))]


def read_table(path: Path) -> ScoreTable:
    """Read what `marssep.evaluate.scores.write_scores` wrote.

    Raises:
        InputError: if the file cannot be read, lacks a column, holds no rows or the same answer twice, or if a cell
            is not what its column holds.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column '{missing[0]}'; run 'marssep evaluate' again.")
            table: dict[Series, dict[Key, Row]] = {}
            for number, cells in enumerate(reader, 2):
                row = _row(cells, f"{path}:{number}")
                answers = table.setdefault(row.series, {})
                if row.key in answers:
                    raise InputError(
                        f"{path}:{number}: {row.key[0]} query {row.key[1]} by {row.series.name} is there twice; "
                        "keep one of the lines."
                    )
                answers[row.key] = row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); copy the whole run folder.") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: not a CSV file of UTF-8 text; run 'marssep evaluate' again.") from None
    if not table:
        raise InputError(f"{path}: holds no scores; run 'marssep evaluate' again.")
    return ScoreTable(table)


def join_tables(tables: Mapping[str, ScoreTable]) -> ScoreTable:
    """One table of several lists; mixtures are called `LIST/MIXTURE`.

    Args:
        tables: by name of the list.
    """
    joined: dict[Series, dict[Key, Row]] = {}
    for name, table in tables.items():
        for series in table.series:
            for (mixture, query), row in table.rows[series].items():
                key = f"{name}/{mixture}", query
                joined.setdefault(series, {})[key] = replace(row, key=key)
    return ScoreTable(joined)


def items_json(table: ScoreTable, *, name: str) -> str:
    """The same table with one entry for each query and the answers side by side, as JSON without NaN.

    Args:
        table: as read by `read_table`.
        name: of the list of mixtures.
    """
    snr = table.input_snr()
    items: dict[Key, dict[str, Any]] = {}
    for series in table.series:
        for key, row in table.rows[series].items():
            item = items.setdefault(
                key,
                {
                    "mixture": key[0],
                    "query": key[1],
                    "present": row.present,
                    "label": row.label,
                    "group": row.group or None,
                    "input_snr_db": round(snr[key], 4) if key in snr else None,
                    "scores": {},
                },
            )
            item["scores"][series.name] = {name: _json(value) for name, value in row.values.items()}
    return json.dumps({"format": 1, "mixtures": name, "items": list(items.values())}, indent=1, ensure_ascii=False)


def _row(cells: Mapping[str | None, Any], where: str) -> Row:
    if None in cells or None in cells.values():
        raise InputError(f"{where}: has not as many cells as there are columns; run 'marssep evaluate' again.")
    query, present = str(cells["query"]), str(cells["present"])
    if not query.isdecimal() or present not in ("0", "1"):
        raise InputError(
            f"{where}: 'query' must be a whole number and 'present' 0 or 1, not {query!r} and {present!r}."
        )
    return Row(
        key=(cells["mixture"], int(query)),
        present=present == "1",
        label=cells["label"],
        group=cells.get("group") or "",
        series=Series(system=cells["system"], modality=cells["modality"] or None),
        values={
            name: _number(cell, name=name, where=where)
            for name, cell in cells.items()
            if name is not None and name not in _TEXT and (name == GAIN or _numeric(cell))
        },
    )


def _numeric(cell: str) -> bool:
    """Whether a column added later holds a number here; words in it are no business of the figures."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _number(cell: str, *, name: str, where: str) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        raise InputError(f"{where}: '{name}' is {cell!r}, not a number; run 'marssep evaluate' again.") from None


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
