"""Bootstrap intervals of means, ratios and paired differences, resampling whole mixtures.

Two queries of one mixture share the mixture, so they are not two independent measurements: the unit that is drawn again
is the cluster (the mixture), never the single query. Values that are NaN (no answer is defined) are left out and not
counted.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

RESAMPLES = 2000
"""Enough for the ends of a 95 % interval to move by less than a twentieth of its width between seeds."""

LEVEL = 0.95
_BLOCK = 4_000_000  # entries of the table of draws held at a time, so that memory does not grow with the list


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its interval: `n` values in `n_clusters` independent clusters. All NaN where there are no values."""

    mean: float
    low: float
    high: float
    n: int
    n_clusters: int

    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero (a difference that is detected)."""
        return self.low > 0.0 or self.high < 0.0


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean.

    Args:
        values: one number for each query; NaN is left out.
        clusters: the mixture each belongs to, in the same order; None if every value is independent.
        level: share of intervals that hold the truth, in (0, 1).
        resamples: number of draws.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: if the lengths differ or `level` or `resamples` is out of range.

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0, 4.0])
        >>> interval.mean, interval.low < 2.5 < interval.high
        (2.5, True)
    """
    flat = _flat(values)
    return ratio_interval(flat, np.ones_like(flat), clusters, level=level, resamples=resamples, seed=seed)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of the mean of first - second over the same queries; pairs with a NaN are left out.

    What makes a mixture hard makes it hard for both systems, so the difference has a far smaller spread than either.

    Args:
        first: scores of one system.
        second: scores of the other, for the same queries in the same order.
        clusters: the mixture of each query.
        level: as in `mean_interval`.
        resamples: as in `mean_interval`.
        seed: as in `mean_interval`.

    Raises:
        ValueError: if the lengths differ.
    """
    ours, theirs = _flat(first), _flat(second)
    if len(ours) != len(theirs):
        raise ValueError(f"paired scores must be of the same queries: {len(ours)} against {len(theirs)}.")
    return mean_interval(ours - theirs, clusters, level=level, resamples=resamples, seed=seed)


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of sum(numerator) / sum(denominator), such as the share of an improvement that is kept.

    Args:
        numerator: one number for each query.
        denominator: one number for each query, in the same order; its sum should be far from zero.
        clusters: the mixture of each query.
        level: as in `mean_interval`.
        resamples: as in `mean_interval`.
        seed: as in `mean_interval`.

    Raises:
        ValueError: if the lengths differ or `level` or `resamples` is out of range.
    """
    above, below = _flat(numerator), _flat(denominator)
    if len(above) != len(below):
        raise ValueError(f"numerator and denominator differ in length: {len(above)} against {len(below)}.")
    if not 0.0 < level < 1.0 or resamples < 1:
        raise ValueError(f"level must lie in (0, 1) and resamples be positive, not {level} and {resamples}.")
    index = _cluster_index(clusters, len(above))
    known = np.isfinite(above) & np.isfinite(below)
    above, below, index = above[known], below[known], index[known]
    if len(above) == 0 or below.sum() == 0.0:
        return Interval(math.nan, math.nan, math.nan, len(above), 0)
    _, index = np.unique(index, return_inverse=True)
    sums = np.stack([np.bincount(index, weights=above), np.bincount(index, weights=below)], axis=1)
    draws = _bootstrap_ratios(sums, resamples=resamples, seed=seed)
    low, high = np.nanquantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(above.sum() / below.sum()), float(low), float(high), len(above), len(sums))


def share_interval(successes: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Wilson score interval of a share of yes among independent yes/no answers (one for each mixture).

    The bootstrap of a hundred times yes is [1, 1], a certainty nobody has; Wilson's interval (1927) is [0.963, 1].

    Args:
        successes: truth values; NaN is left out.
        level: share of intervals that hold the truth, in (0, 1).
    """
    answers = _flat(successes)
    answers = answers[np.isfinite(answers)]
    n = len(answers)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    share = float(answers.mean())
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    centre = (share + z * z / (2 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n, n)


def _bootstrap_ratios(
    sums: Float[np.ndarray, "clusters 2"], *, resamples: int, seed: int
) -> Float[np.ndarray, " resamples"]:
    generator = np.random.default_rng(seed)
    n = len(sums)
    rows = max(1, _BLOCK // n)
    ratios = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, n, size=(min(rows, resamples - start), n))
        totals = sums[drawn].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(totals[:, 0] / totals[:, 1])
    return np.concatenate(ratios)


def _cluster_index(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} values, but clusters for {len(clusters)}.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def _flat(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1)
