"""Bootstrap of answers that raters gave to items: both are samples, so both are drawn again."""

import numpy as np
from jaxtyping import Float

from marssep.metrics.intervals import LEVEL, RESAMPLES, Interval


def crossed_weights(
    n_rows: int, n_columns: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Float[np.ndarray, "resamples rows"], Float[np.ndarray, "resamples columns"]]:
    """How often each row and each column is drawn, with replacement and apart from each other.

    A cell counts as often as its row times its column (the pigeonhole bootstrap, Owen 2007, Annals of Applied
    Statistics 1(2)). Its intervals are somewhat too wide rather than too narrow; drawing single answers would take
    ten answers of one rater for ten raters.

    Args:
        n_rows: number of raters.
        n_columns: number of items.
        resamples: number of draws.
        seed: equal seeds give equal draws.
    """
    generator = np.random.default_rng(seed)
    rows = generator.multinomial(n_rows, np.full(n_rows, 1.0 / n_rows), size=resamples)
    columns = generator.multinomial(n_columns, np.full(n_columns, 1.0 / n_columns), size=resamples)
    return rows.astype(np.float64), columns.astype(np.float64)


def crossed_interval(
    values: Float[np.ndarray, "rows columns"], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of a table of answers over its rows (raters) and columns (items).

    Args:
        values: NaN where there is no answer.
        level: share of intervals that hold the truth, in (0, 1).
        resamples: number of draws.
        seed: equal seeds give equal intervals.

    Returns:
        an interval whose `n_clusters` is the smaller of the numbers of rows and columns with answers; all NaN if there
        are none, and a mean without ends if there is but one row or one column.

    Raises:
        ValueError: if `level` or `resamples` is out of range.
    """
    if not 0.0 < level < 1.0 or resamples < 1:
        raise ValueError(f"level must lie in (0, 1) and resamples be positive, not {level} and {resamples}.")
    known = np.isfinite(values)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    kept = np.ix_(known.any(axis=1), known.any(axis=0))
    values, known = values[kept], known[kept]
    mean = float(values[known].mean())
    if min(values.shape) < 2:
        return Interval(mean, np.nan, np.nan, int(known.sum()), 1)
    rows, columns = crossed_weights(*values.shape, resamples=resamples, seed=seed)
    total = ((rows @ np.where(known, values, 0.0)) * columns).sum(axis=1)
    count = ((rows @ known.astype(np.float64)) * columns).sum(axis=1)
    drawn = total[count > 0.0] / count[count > 0.0]
    low, high = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(mean, float(low), float(high), int(known.sum()), min(values.shape))
