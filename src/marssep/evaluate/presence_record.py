"""How well presence tells sounds that are there from sounds that are not: the figures of `results/presence.json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from marssep.errors import InputError, UsageError
from marssep.evaluate.report.counting import N_BINS, Calibration, Draws, calibration
from marssep.evaluate.report.items import ScoreTable, Series, column, join_tables, with_presence
from marssep.evaluate.report.run import Run
from marssep.metrics import share_interval


def presence_record(runs: Sequence[Run], *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """ROC area with its interval, the threshold and what it gives, and reliability, for every kind of query.

    The threshold is the one that the runs were scored with: the model's own, which was chosen on validation.

    Args:
        runs: of `marssep evaluate`, each with its table of scores; if there are several, figures of each and of all
            their queries together.
        resamples: of the bootstrap, which draws whole mixtures.
        seed: of the bootstrap.

    Raises:
        InputError: if a run has no scores, or none of both present and absent queries.
        UsageError: if the runs are not of one model and threshold, or two are of one list.
    """
    first, draws = runs[0], Draws(resamples=resamples, seed=seed)
    _check_together(runs)
    record: dict[str, Any] = {
        "what": "presence of the shipped model against the truth; nothing was tuned on these lists",
        "mixtures": first.results.mixtures.model_dump(mode="json"),
        "model": first.results.model.name,
        "model_sha256": first.results.model.sha256,
        "threshold": _threshold(first),
        "queries": _rows(first, first.table(), draws),
        "resamples": resamples,
        "seed": seed,
        "versions": first.results.versions,
        "date": first.results.date,
    }
    if len(runs) > 1:
        record["further"] = [
            {"mixtures": run.results.mixtures.model_dump(mode="json"), "queries": _rows(run, run.table(), draws)}
            for run in runs[1:]
        ]
        record["together"] = _rows(first, join_tables({run.results.mixtures.name: run.table() for run in runs}), draws)
    return record


def _check_together(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        if run.results.model.sha256 != runs[0].results.model.sha256 or _threshold(run) != _threshold(runs[0]):
            raise UsageError(
                f"{run.folder}: of another model or threshold than {runs[0].folder}; name runs of one model."
            )
    names = [run.results.mixtures.name for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(f"--presence: two of the runs are of one list ({', '.join(names)}); name each once.")


def _threshold(run: Run) -> float:
    threshold: float = run.results.settings["presence_threshold"]
    return threshold


def _rows(run: Run, scores: ScoreTable, draws: Draws) -> dict[str, Any]:
    rows = {}
    for series in run.main_series():
        found = calibration(scores, series)
        if found is not None:
            rows[str(series.modality)] = _row(scores, series, found, threshold=_threshold(run), draws=draws)
    if not rows:
        raise InputError(f"{run.folder}: no system answered both present and absent queries with a presence score.")
    return rows


def area(present: Float[np.ndarray, " p"], absent: Float[np.ndarray, " a"]) -> float:
    """Probability that a present query scores above an absent one, equal scores counting half."""
    ordered = np.sort(absent)
    below = np.searchsorted(ordered, present, side="left")
    up_to = np.searchsorted(ordered, present, side="right")
    return float((below + up_to).mean() / (2.0 * len(absent)))


def area_interval(
    present: Float[np.ndarray, " p"],
    absent: Float[np.ndarray, " a"],
    clusters: tuple[list[str], list[str]],
    draws: Draws,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the area, drawing whole mixtures: their queries hear the same sounds.

    Args:
        present: scores of present queries.
        absent: scores of absent queries.
        clusters: the mixture of each, in the same order.
        draws: level, number and seed.
    """
    names = sorted({*clusters[0], *clusters[1]})
    number = {name: index for index, name in enumerate(names)}
    places = [np.array([number[name] for name in own]) for own in clusters]
    rng = np.random.default_rng(draws.seed)
    areas = []
    for _ in range(draws.resamples):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        drawn = [np.repeat(scores, times[place]) for scores, place in zip((present, absent), places, strict=True)]
        if len(drawn[0]) and len(drawn[1]):
            areas.append(area(*drawn))
    low, high = np.quantile(areas, [(1 - draws.level) / 2, (1 + draws.level) / 2])
    return float(low), float(high)


def _row(table: ScoreTable, series: Series, found: Calibration, *, threshold: float, draws: Draws) -> dict[str, Any]:
    there, gone = (with_presence(rows) for rows in (table.present(series), table.absent(series)))
    present, absent = column(there, "presence"), column(gone, "presence")
    low, high = area_interval(present, absent, ([row.key[0] for row in there], [row.key[0] for row in gone]), draws)
    kept, rejected = share_interval(present >= threshold), share_interval(absent < threshold)
    bins = zip(found.stated, found.found, found.count, strict=True)
    return {
        "n_present": found.n_present,
        "n_absent": found.n_absent,
        "area": round(found.area, 4),
        "area_interval": [round(low, 4), round(high, 4)],
        "present_accepted": [round(value, 4) for value in (kept.mean, kept.low, kept.high)],
        "absent_rejected": [round(value, 4) for value in (rejected.mean, rejected.low, rejected.high)],
        "expected_calibration_error": round(found.error, 4),
        "balanced_calibration_error": round(found.balanced_error, 4),
        "brier": round(found.brier, 4),
        "reliability": [
            {"from": index / N_BINS, "stated": _number(stated), "found": _number(share), "queries": int(count)}
            for index, (stated, share, count) in enumerate(bins)
        ],
        "roc": _thinned(found),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _thinned(found: Calibration, *, points: int = 41) -> list[list[float]]:
    """`[false positive, true positive]` at even steps of the former."""
    at = np.linspace(0.0, 1.0, points)
    high = [found.true_positive[found.false_positive <= share + 1e-12].max() for share in at]
    return [[round(float(x), 4), round(float(y), 4)] for x, y in zip(at, high, strict=True)]
