"""What the report works out from the scores of single queries; intervals are those of `marssep.metrics.intervals`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from marssep.evaluate.report.items import GAIN, Key, Row, ScoreTable, Series, column, with_presence
from marssep.metrics import Interval, mean_interval, paired_difference

SNR_EDGES_DB = (-math.inf, -10.0, -5.0, 0.0, 5.0, 10.0, math.inf)
"""Strata of the input SNR; the last one of each pair is not in it."""

N_BINS = 10
"""Equal steps of probability in the reliability diagram."""

_FEWEST_FOR_POINT = 25  # queries behind a point of the trend: fewer make a band too wide to read
_MOST_POINTS = 8


@dataclass(frozen=True, slots=True)
class Draws:
    """How every interval is drawn: as the results were.

    Attributes:
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def mean(self, values: Float[np.ndarray, " n"], rows: Sequence[Row]) -> Interval:
        """Interval of a mean, drawing whole mixtures."""
        clusters = [row.key[0] for row in rows]
        return mean_interval(values, clusters, level=self.level, resamples=self.resamples, seed=self.seed)

    def difference(self, table: ScoreTable, first: Series, second: Series) -> Interval:
        """Interval of the mean SI-SDRi of `first` minus that of `second` over the queries that both answered."""
        ours = table.present(first)
        theirs = [table.find(second, row.key) for row in ours]
        both = [(one, two) for one, two in zip(ours, theirs, strict=True) if two is not None]
        return paired_difference(
            [one.value(GAIN) for one, _ in both],
            [two.value(GAIN) for _, two in both],
            [one.key[0] for one, _ in both],
            level=self.level,
            resamples=self.resamples,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Box:
    """Five percentiles and the mean of a series, dB."""

    series: Series
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    mean: float
    n: int


@dataclass(frozen=True, slots=True)
class Trend:
    """SI-SDRi against input SNR: every query as a dot, and means with intervals over equally filled ranges.

    Attributes:
        series: who answered.
        snr_db: input SNR of each query.
        gain_db: its SI-SDRi.
        at_db: mean input SNR of each range.
        mean_db: mean SI-SDRi in it.
        low_db: lower end of its interval.
        high_db: upper end.
    """

    series: Series
    snr_db: Float[np.ndarray, " n"]
    gain_db: Float[np.ndarray, " n"]
    at_db: Float[np.ndarray, " k"]
    mean_db: Float[np.ndarray, " k"]
    low_db: Float[np.ndarray, " k"]
    high_db: Float[np.ndarray, " k"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Presence against the truth.

    Attributes:
        series: who answered.
        n_present: queries for sounds that are there.
        n_absent: queries for sounds that are not.
        stated: mean presence in each bin of probability, NaN where it is empty.
        found: share of present queries in it.
        count: queries in it.
        error: expected calibration error: mean of |stated - found| weighted by the counts.
        balanced_error: the same with all present and all absent queries weighing half each.
        brier: mean squared distance of presence to the truth (0 or 1).
        false_positive: share of absent queries at or above each threshold, from 0 to 1.
        true_positive: share of present queries at or above it.
        area: under the ROC curve.
    """

    series: Series
    n_present: int
    n_absent: int
    stated: Float[np.ndarray, " bins"]
    found: Float[np.ndarray, " bins"]
    count: Float[np.ndarray, " bins"]
    error: float
    balanced_error: float
    brier: float
    false_positive: Float[np.ndarray, " k"]
    true_positive: Float[np.ndarray, " k"]
    area: float


def box(table: ScoreTable, series: Series) -> Box | None:
    """Spread of a series; None if it has no scores."""
    gains = column(table.present(series), GAIN)
    if gains.size == 0:
        return None
    p5, p25, median, p75, p95 = (float(value) for value in np.percentile(gains, [5, 25, 50, 75, 95]))
    return Box(series, p5, p25, median, p75, p95, float(gains.mean()), gains.size)


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Of the mean over single queries; NaN for fewer than two."""
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def stratum(snr_db: float) -> tuple[float, float]:
    """The pair of `SNR_EDGES_DB` that a level lies in."""
    return next((low, high) for low, high in pairwise(SNR_EDGES_DB) if low <= snr_db < high)


def trend(table: ScoreTable, series: Series, snr: dict[Key, float], draws: Draws) -> Trend | None:
    """How the improvement depends on the level of the target; None if no level is known."""
    rows = sorted((row for row in table.present(series) if row.key in snr), key=lambda row: (snr[row.key], row.key))
    if not rows:
        return None
    points = []
    n_points = min(_MOST_POINTS, max(1, len(rows) // _FEWEST_FOR_POINT))
    for part in np.array_split(np.arange(len(rows)), n_points):
        chosen = [rows[index] for index in part]
        interval = draws.mean(column(chosen, GAIN), chosen)
        points.append((np.mean([snr[row.key] for row in chosen]), interval.mean, interval.low, interval.high))
    at, mean, low, high = np.array(points).T
    return Trend(series, np.array([snr[row.key] for row in rows]), column(rows, GAIN), at, mean, low, high)


def calibration(table: ScoreTable, series: Series) -> Calibration | None:
    """How far presence can be taken at its word; None unless there are answers to present and to absent queries."""
    there = column(with_presence(table.present(series)), "presence")
    gone = column(with_presence(table.absent(series)), "presence")
    if there.size == 0 or gone.size == 0:
        return None
    stated = np.concatenate([there, gone])
    truth = np.concatenate([np.ones(there.size), np.zeros(gone.size)])
    bins = np.minimum((stated.clip(0.0, 1.0) * N_BINS).astype(int), N_BINS - 1)
    balance = np.where(truth == 1.0, 0.5 / there.size, 0.5 / gone.size)
    even = np.full(stated.size, 1.0 / stated.size)
    count = np.bincount(bins, minlength=N_BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean_stated = np.bincount(bins, stated, N_BINS) / count
        mean_found = np.bincount(bins, truth, N_BINS) / count
    false_positive, true_positive = _roc(stated, truth == 1.0)
    return Calibration(
        series=series,
        n_present=there.size,
        n_absent=gone.size,
        stated=mean_stated,
        found=mean_found,
        count=count,
        error=_calibration_error(bins, stated - truth, even),
        balanced_error=_calibration_error(bins, stated - truth, balance),
        brier=float(np.square(stated - truth).mean()),
        false_positive=false_positive,
        true_positive=true_positive,
        area=float(np.trapezoid(true_positive, false_positive)),
    )


def _calibration_error(bins: np.ndarray, excess: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
    return float(np.abs(np.bincount(bins, weight * excess, N_BINS)).sum())


def _roc(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of absent and present queries at or above each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)  # equal scores are one threshold
    found = np.cumsum(truth[order])[last]
    false = last + 1 - found
    return np.append(0.0, false / (~truth).sum()), np.append(0.0, found / truth.sum())
