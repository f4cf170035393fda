"""Losses of the second and third stage of the alignment (Eqs. 8 and 9, arXiv:2510.10509); lower is better in all."""

from jaxtyping import Float
from torch import Tensor


def triplet_loss(
    anchors: Float[Tensor, "n d"],
    positives: Float[Tensor, "n d"],
    negatives: Float[Tensor, "n d"],
    *,
    margin: float,
) -> Float[Tensor, ""]:
    """Mean over rows of `max(0, margin - anchor . positive + anchor . negative)`.

    Args:
        anchors: unit norm.
        positives: what must lie nearer.
        negatives: what must lie farther, by `margin` of cosine.
        margin: >= 0.
    """
    gap = (anchors * positives).sum(1) - (anchors * negatives).sum(1)
    return (margin - gap).clamp_min(0.0).mean()


def ranking_loss(
    similarity: Float[Tensor, "b k"], quality: Float[Tensor, "b k"], *, slope: float, cap: float
) -> Float[Tensor, ""]:
    """Consistency: of two separations of a mixture, the better one must be more similar, the more so the better it is.

    Mean over pairs with quality_i > quality_j of `max(0, m - (similarity_i - similarity_j))`, where m is
    `min(cap, slope * (quality_i - quality_j))`. Adding a constant to either side of a row changes nothing.

    Args:
        similarity: to the anchor of the row, in [-1, 1].
        quality: in dB, finite.
        slope: similarity asked for per dB.
        cap: at most this much is asked for.
    """
    better = quality[:, :, None] - quality[:, None, :]
    nearer = similarity[:, :, None] - similarity[:, None, :]
    wanted = (slope * better).clamp_max(cap)
    pairs = (better > 0).to(similarity.dtype)
    return ((wanted - nearer).clamp_min(0.0) * pairs).sum() / pairs.sum().clamp_min(1.0)


def correlation_loss(similarity: Float[Tensor, "b k"], quality: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Consistency among separations that hardly differ: 1 minus the mean correlation within the rows, in [0, 2].

    Scale and offset of either side play no part. Rows whose quality is constant are left out.
    """
    rows = quality.std(1) > 1e-6
    if not bool(rows.any()):
        return similarity.sum() * 0.0
    left, right = (values[rows] - values[rows].mean(1, keepdim=True) for values in (similarity, quality))
    # the floor keeps the slope finite where an untrained head gives the same to all
    norms = left.norm(dim=1).clamp_min(1e-4) * right.norm(dim=1)
    return 1.0 - ((left * right).sum(1) / norms).mean()
