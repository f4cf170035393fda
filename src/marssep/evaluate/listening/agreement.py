"""How far raters agree: Krippendorff's alpha for scores on an interval scale."""

import numpy as np
from jaxtyping import Float


def krippendorff_alpha(scores: Float[np.ndarray, "raters units"]) -> float:
    """1 - observed disagreement / disagreement expected by chance, with squared differences; 1 is full agreement.

    Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D with the interval metric. Raters may
    have left units out. About 0 means that the raters answer as if by lot, below 0 that they contradict each other.

    Args:
        scores: NaN where there is no score; units with fewer than two scores tell nothing and are left out.

    Returns:
        NaN if no unit has two scores or all scores are equal.
    """
    scores = scores[:, np.isfinite(scores).sum(axis=0) >= 2]
    known = np.isfinite(scores)
    n = int(known.sum())
    if n == 0:
        return float("nan")
    filled = np.where(known, scores, 0.0)
    counts = known.sum(axis=0)
    # The squared differences of all ordered pairs of m values add up to 2 m sum(x^2) - 2 sum(x)^2.
    within = 2.0 * counts * np.square(filled).sum(axis=0) - 2.0 * np.square(filled.sum(axis=0))
    observed = float((within / (counts - 1)).sum() / n)
    expected = float(2.0 * n * np.square(filled).sum() - 2.0 * filled.sum() ** 2) / (n * (n - 1))
    return 1.0 - observed / expected if expected > 0.0 else float("nan")
