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


def unpaired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of mean(first) - mean(second) of two lists that share nothing, each resampled on its own.

    For systems that were scored on different items, such as two publications. On the same items it throws away what
    `paired_difference` uses: `results/planted-difference.json` says how much.

    Args:
        first: scores of one system; NaN is left out.
        second: scores of the other; the lengths may differ.
        clusters: the mixtures of the first and of the second; None if every value is independent.
        level: as in `mean_interval`.
        resamples: as in `mean_interval`.
        seed: as in `mean_interval`.

    Returns:
        `n` and `n_clusters` are those of the smaller list.

    Raises:
        ValueError: as in `mean_interval`.
    """
    _check_draws(level, resamples)
    pairs = zip((first, second), clusters or (None, None), strict=True)
    sums = [_cluster_sums(flat := _flat(values), np.ones_like(flat), names) for values, names in pairs]
    counts, clustered = [int(entry[:, 1].sum()) for entry in sums], [len(entry) for entry in sums]
    if min(counts) == 0:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    # one seed for both would draw the same places and pair them again
    ours, theirs = (_bootstrap_ratios(entry, resamples=resamples, seed=(seed, at)) for at, entry in enumerate(sums))
    low, high = np.nanquantile(ours - theirs, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    means = [float(entry[:, 0].sum() / entry[:, 1].sum()) for entry in sums]
    return Interval(means[0] - means[1], float(low), float(high), min(counts), min(clustered))


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
    _check_draws(level, resamples)
    sums = _cluster_sums(above, below, clusters)
    n, total = int(_known(above, below).sum()), sums.sum(0)
    if n == 0 or total[1] == 0.0:
        return Interval(math.nan, math.nan, math.nan, n, 0)
    draws = _bootstrap_ratios(sums, resamples=resamples, seed=seed)
    low, high = np.nanquantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(total[0] / total[1]), float(low), float(high), n, len(sums))


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
    sums: Float[np.ndarray, "clusters 2"], *, resamples: int, seed: int | tuple[int, int]
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


def _cluster_sums(
    above: Float[np.ndarray, " n"], below: Float[np.ndarray, " n"], clusters: Sequence[Hashable] | None
) -> Float[np.ndarray, "clusters 2"]:
    """Both sums of every cluster, over the entries where both are finite."""
    index, known = _cluster_index(clusters, len(above)), _known(above, below)
    _, index = np.unique(index[known], return_inverse=True)
    sums = np.stack([np.bincount(index, weights=entry[known]) for entry in (above, below)], axis=1)
    return sums.astype(np.float64)  # bincount of nothing is of integers


def _known(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.isfinite(above) & np.isfinite(below)


def _check_draws(level: float, resamples: int) -> None:
    if not 0.0 < level < 1.0 or resamples < 1:
        raise ValueError(f"level must lie in (0, 1) and resamples be positive, not {level} and {resamples}.")


def _cluster_index(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} values, but clusters for {len(clusters)}.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def _flat(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1)
