"""From the rows of the study to its table: means, and paired differences over mixtures and seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from marssep.errors import UsageError
from marssep.evaluate.study.variants import VARIANTS
from marssep.metrics import Interval, mean_interval
from marssep.metrics.crossed import crossed_interval

FIGURES: Mapping[str, tuple[str, str]] = {
    "si_sdri": ("si_sdri", "text"),
    "si_sdri_audio": ("si_sdri", "audio"),
    "si_sdri_image": ("si_sdri", "image"),
    "si_sdri_composed": ("si_sdri", "composed"),
    "judge": ("judge", "text"),
    "text_similarity": ("text_similarity", "text"),
    "recogniser": ("recogniser", "text"),
    "recognised": ("recognised", "text"),
}
"""Column -> (score, kind of query)."""
DEFAULT, BLACK_BOX = "reinforced", ("recogniser", "refined by search")
SAME_START = 0.05
"""In dB, in cosine and in probability alike."""
WITHOUT_REWARD = ("paper", "paper, no reward")
"""The same training with a reward and without."""
Table = dict[int, Float[np.ndarray, " mixtures"]]
"""Means per mixture by seed, mixtures in the order of their names; NaN where nothing was scored."""
_REPORTED = {"si_sdri": "si_sdri", "judge": "judge", "text_similarity": "text_similarity"}


def summarise(files: Sequence[Path]) -> dict[str, Any]:
    """The table of a study as JSON.

    Every figure of a row is a mean over mixtures and seeds. `against_start` and `against_control` are paired
    differences: the same mixtures, the same seed. `gain_over_best_control` compares the default row with the best
    control on each figure, and the best row that was rewarded by the recogniser with the best one that was not;
    `gain_of_the_reward` the paper's settings with the same ones without a reward.

    Args:
        files: of rows and seeds, from `run_study`.
    """
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for path in files:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.setdefault(found["variant"], {})[found["seed"]] = found
    tables = {name: {figure: _table(by_seed, figure) for figure in FIGURES} for name, by_seed in rows.items()}
    start = tables.get("warm start")
    controls = [each.name for each in VARIANTS if each.role != "reinforced" and each.name in tables]
    out: list[dict[str, Any]] = []
    for each in VARIANTS:
        if each.name not in tables:
            continue
        by_seed, own = rows[each.name], tables[each.name]
        entry: dict[str, Any] = {
            "name": each.name,
            "says": each.says,
            "role": each.role,
            "changes": list(each.changes),
            "refined": each.refined and each.refined.described(),
            "seeds": sorted(by_seed),
            "scale": [by_seed[seed]["scale"] for seed in sorted(by_seed)],
            "cpu_seconds": _mean([run["training"].get("cpu_seconds", 0.0) for run in by_seed.values()]),
            "updates": max(run["training"].get("updates", 0) for run in by_seed.values()),
            "stopped": [run["training"].get("stopped") for run in by_seed.values() if run["training"].get("stopped")],
            "figures": {figure: _mean(table) for figure, table in own.items()},
        }
        if start is not None:
            entry["against_start"] = {figure: asdict(_difference(own[figure], start[figure])) for figure in FIGURES}
        out.append(entry)
    first = next(iter(next(iter(rows.values())).values()))
    summary: dict[str, Any] = {"facts": first["facts"], "rows": out}
    gains = _black_box(tables)
    if DEFAULT in tables and controls:
        gains = _gains(tables, controls) | gains
        for entry in out:
            if entry["role"] != "start":
                own = tables[entry["name"]]
                reference = tables.get("supervised, equal time", own)
                entry["against_supervised"] = {
                    figure: asdict(_difference(own[figure], reference[figure])) for figure in FIGURES
                }
    if gains:
        summary["gain_over_best_control"] = gains
    return summary | _of_the_reward(tables)


def add_rows(known: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Put rows that were run later beside those of a study; what compares rows with each other stays as it is.

    Args:
        known: from `summarise`.
        found: the same of a study of fewer rows. Its warm start must have the figures that it has in `known` within
            `SAME_START`: two builds of one corpus differ a little, and so does a recogniser that learns from them. An
            added row says what its own warm start had (`own_start`).

    Raises:
        UsageError: if the figures differ by more, or either has no warm start.
    """
    ours, theirs = ({row["name"]: row for row in each["rows"]} for each in (known, found))
    before, now = (rows.get("warm start", {}).get("figures", {}) for rows in (ours, theirs))
    if not before or before.keys() != now.keys() or any(abs(before[key] - now[key]) > SAME_START for key in before):
        raise UsageError(
            "the two studies have no warm start with nearly equal figures, so their rows cannot stand side by side; "
            "run the row 'warm start' in both, with the same corpus, model, student and list."
        )
    added = {name: row | {"own_start": now} for name, row in theirs.items() if name not in ours}
    names = [each.name for each in VARIANTS]
    return {**known, "rows": sorted((ours | added).values(), key=lambda row: names.index(row["name"]))}


def _of_the_reward(tables: Mapping[str, Mapping[str, Table]]) -> dict[str, Any]:
    """The paper's settings with and without a reward, figure by figure; nothing if either row is missing."""
    row, control = WITHOUT_REWARD
    if row not in tables or control not in tables:
        return {}
    differences = {figure: _difference(tables[row][figure], tables[control][figure]) for figure in FIGURES}
    return {
        "gain_of_the_reward": {
            figure: {"row": row, "control": control, **asdict(difference)} for figure, difference in differences.items()
        }
    }


def _gains(tables: Mapping[str, Mapping[str, Table]], controls: Sequence[str]) -> dict[str, Any]:
    """The default row and the best control, figure by figure."""
    gains: dict[str, Any] = {}
    for key, figure in _REPORTED.items():
        best = max(controls, key=lambda name: _mean(tables[name][figure]))
        gains[key] = {"control": best, **asdict(_difference(tables[DEFAULT][figure], tables[best][figure]))}
    return gains


def _black_box(tables: Mapping[str, Mapping[str, Table]]) -> dict[str, Any]:
    """The best row that was rewarded by the recogniser and the best that was not; nothing if either is missing."""
    rewarded, others = (
        [name for name in tables if name in BLACK_BOX],
        [name for name in tables if name not in BLACK_BOX],
    )
    if not rewarded or not others:
        return {}
    own, other = (max(names, key=lambda name: _mean(tables[name]["recogniser"])) for names in (rewarded, others))
    difference = _difference(tables[own]["recogniser"], tables[other]["recogniser"])
    return {"black_box": {"row": own, "control": other, **asdict(difference)}}


def _table(by_seed: Mapping[int, Mapping[str, Any]], figure: str) -> Table:
    score, kind = FIGURES[figure]
    names = sorted({row["mixture"] for run in by_seed.values() for row in run["queries"]})
    place = {name: column for column, name in enumerate(names)}
    table = {}
    for seed, run in sorted(by_seed.items()):
        total, count = np.zeros(len(names)), np.zeros(len(names))
        for row in run["queries"]:
            if row["kind"] == kind and score in row:
                total[place[row["mixture"]]] += row[score]
                count[place[row["mixture"]]] += 1
        table[seed] = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)
    return table


def _difference(own: Table, other: Table) -> Interval:
    """Paired over mixtures, and over the seeds that both have; a row without chance stands for every seed."""
    if len(other) == 1:
        pairs = [(values, *other.values()) for values in own.values()]
    elif len(own) == 1:
        pairs = [(*own.values(), values) for values in other.values()]
    else:
        pairs = [(own[seed], other[seed]) for seed in own if seed in other]
    if not pairs:
        raise UsageError("Two rows of the study have no seed in common; run both for the same seeds.")
    difference = np.stack([ours - theirs for ours, theirs in pairs])
    return mean_interval(difference[0]) if len(difference) == 1 else crossed_interval(difference)


def _mean(values: Any) -> float:
    if isinstance(values, dict):
        values = list(values.values())
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return round(float(known.mean()), 4) if known.size else float("nan")
