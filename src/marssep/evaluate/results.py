"""What an evaluation writes down: figures with their intervals and all that is needed to obtain them again."""

import json
import math
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from marssep.errors import InputError, OutputError
from marssep.metrics import Interval

Modality = Literal["text", "audio", "image", "composed"]
MODEL = "model"
"""Row of the first model; further models and folders of estimates have rows under their own names."""

GATED = "_gated"
"""Ending of the row of a model whose gate may close."""


class Record(BaseModel):
    """Base of everything in a results file: frozen, strict about unknown keys, numbers or null but never NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Figure(Record):
    """A mean with its interval; null where nothing was measured or the interval would mean nothing."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    """Queries behind the mean."""
    n_mixtures: int
    """Independent mixtures behind the interval."""
    median: float | None = None
    sem: float | None = None
    """Standard error of the mean over single queries, as the ancestors print it; the interval is over mixtures."""

    @classmethod
    def of(cls, interval: Interval, *, median: float = math.nan, sem: float = math.nan, fewest: int = 2) -> "Figure":
        """A figure from an interval; fewer than `fewest` mixtures give a mean without an interval."""
        known = interval.n_clusters >= fewest
        return cls(
            mean=_number(interval.mean),
            low=_number(interval.low) if known else None,
            high=_number(interval.high) if known else None,
            n=interval.n,
            n_mixtures=interval.n_clusters,
            median=_number(median),
            sem=_number(sem),
        )


class BssRow(Record):
    """BSS-eval v4 over whole signals, as museval has it with window=inf; on part of the list or all of it."""

    n: int
    sdr_db: float | None
    sir_db: float | None
    sar_db: float | None
    largest_difference_to_snr_db: float | None
    """BSS-eval's SDR of one channel is the SNR: this is how far the two were apart at most."""


class SystemRow(Record):
    """One system, one kind of query, one group of sounds."""

    system: str
    modality: Modality | None
    """None for systems that see no query."""
    group: str
    """`all`, `instrument`, `sound` or `speech`."""
    si_sdr_improvement_db: Figure
    snr_db: Figure | None
    """None for the gated model, whose level is not meant to be the target's."""
    snr_improvement_db: Figure | None
    bss: BssRow | None
    text_score: Figure | None = None
    audio_score: Figure | None = None
    judge: Figure | None = None


class StratumRow(Record):
    """One system and kind of query on the sources whose level in the mixture lies in [low_db, high_db)."""

    system: str
    modality: Modality | None
    low_db: float | None
    """Input SNR of the target; null is minus infinity."""
    high_db: float | None
    """Null is infinity."""
    si_sdr_improvement_db: Figure


class ComparisonRow(Record):
    """Mean SI-SDRi of one system minus that of another over the queries that both answered."""

    first: str
    second: str
    modality: Modality | None
    """How the query was asked for; null where neither system sees it."""
    difference_db: Figure


class ProblemRow(Record):
    """Something that could not be scored; all the rest was."""

    mixture: str
    query: int | None
    """Null where the whole mixture is meant."""
    system: str | None
    """Null where every system is meant."""
    what: str


class PairedRow(Record):
    """Mean SI-SDRi by `modality` minus that by `baseline` over the queries that have both."""

    modality: Modality
    baseline: Modality
    difference_db: Figure


class PresenceRow(Record):
    """What the model answers when asked for a sound that is not there, and what that costs the sounds that are."""

    modality: Modality
    system: str = MODEL
    threshold: float
    quiet_threshold: float | None = None
    """For targets that lie `quiet_db` or more below the mixture wherever they are loudest; None in older results."""
    quiet_db: float | None = None
    area: float | None
    """Area under the ROC curve of the presence score."""
    absent_suppressed_by_mask: Figure
    """Share of absent queries whose target lies `absent_level_db` or more below the mixture, gate open."""
    absent_suppressed: Figure
    """The same with the gate: what a user meets."""
    absent_rejected: Figure
    """Share of absent queries that the gate closes for."""
    absent_suppression_median_db: float | None
    present_rejected: Figure
    kept: Figure
    """Share of the present queries' SI-SDRi kept under the gate; a rejected one scores min(SI-SDRi, 0)."""


class ClassRow(Record):
    """One class by one kind of query."""

    label: str
    group: str
    modality: Modality
    si_sdr_improvement_db: Figure


class ListRecord(Record):
    """Which mixtures."""

    name: str
    sha256: str
    """Of the mixtures evaluated, as JSON lines."""
    n_mixtures: int
    n_present: int
    n_absent: int


class ModelRecord(Record):
    """Which model."""

    name: str
    row: str = MODEL
    """What its rows are called."""
    sha256: str | None
    architecture: str | None
    parameters: int | None
    encoder: str | None


class Results(Record):
    """One evaluation, as written to `results/TOPIC.json`."""

    format: Literal[1, 2] = 2
    """1 knew one model and no problems; such files are still read."""
    mixtures: ListRecord
    model: ModelRecord
    settings: dict[str, Any]
    versions: dict[str, str]
    date: str
    wall_seconds: float
    systems: list[SystemRow]
    paired: list[PairedRow]
    presence: list[PresenceRow]
    classes: list[ClassRow]
    protocol: str | None = None
    models: list[ModelRecord] = []
    """The first model and all others, by the names of their rows."""
    strata: list[StratumRow] = []
    comparisons: list[ComparisonRow] = []
    problems: list[ProblemRow] = []

    def row(self, system: str, modality: Modality | None = None, *, group: str = "all") -> SystemRow | None:
        """The row of a system, or None if it was not measured."""
        wanted = (system, modality, group)
        return next((row for row in self.systems if (row.system, row.modality, row.group) == wanted), None)

    def figures(self) -> dict[str, Any]:
        """Everything that must be equal in a second run: all but date, wall time and versions."""
        return self.model_dump(mode="json", exclude={"date", "wall_seconds", "versions"})

    def difference(self, first: str, second: str, modality: Modality | None = None) -> Figure | None:
        """Mean SI-SDRi of `first` minus that of `second`, or None if they were not compared."""
        for row in self.comparisons:
            if (row.first, row.second, row.modality) == (first, second, modality):
                return row.difference_db
        return None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically.

        Raises:
            OutputError: if the folder cannot be written.
        """
        write_text(Path(path), json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read what `Results.write` wrote.

    Raises:
        InputError: if the file is missing or is not a results file.
    """
    try:
        return Results.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name a file that 'marssep evaluate' wrote."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{path}: not a results file ({where}: {first['msg']}); run 'marssep evaluate' again."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then move it into place.

    Raises:
        OutputError: if the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --output folder.") from None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
