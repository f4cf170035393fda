"""Samples of a Beta policy around a mask, with quantiles shared by blocks: what a reward must tell apart in training.

The policy is that of the paper (Eq. 2): Beta(1 + k P, 1 + k (1 - P)) in every cell, whose mode is the proposal P. With
independent cells hardly anything that can be heard changes from sample to sample, and no reward is informative; so the
cells of a block share one quantile. The marginals stay exactly those of the paper.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CONCENTRATION = 9.0
"""k of the paper."""
BLOCKS = 8
"""Blocks along either side of the grid."""


def explore_masks(
    mask: Float[Tensor, "bands steps"],
    count: int,
    *,
    rng: np.random.Generator,
    concentration: float = CONCENTRATION,
    blocks: int = BLOCKS,
) -> Float[Tensor, "k bands steps"]:
    """Draw masks in antithetic pairs: one quantile a block, of a grid of blocks that is rolled at random.

    Args:
        mask: proposal P, in [0, 1].
        count: number of masks; the last of an odd number has no partner.
        rng: decides everything.
        concentration: k > 0; the larger, the closer to P.
        blocks: along either side; as many as cells gives independent cells.
    """
    from scipy.special import betaincinv, ndtr

    proposal = mask.double().numpy()
    height, width = (min(blocks, size) for size in proposal.shape)
    half = rng.standard_normal((-(-count // 2), height, width))
    quantiles = ndtr(np.stack([half, -half], 1).reshape(-1, height, width)[:count])
    rows = np.arange(proposal.shape[0]) * height // proposal.shape[0]
    columns = np.arange(proposal.shape[1]) * width // proposal.shape[1]
    spread = quantiles[:, rows[:, None], columns[None, :]]
    # the same roll for all samples: their differences lie in the same blocks
    shift = [int(rng.integers(-(-size // n))) for size, n in zip(proposal.shape, (height, width), strict=True)]
    spread = np.roll(spread, shift, axis=(1, 2))
    drawn = betaincinv(1.0 + concentration * proposal, 1.0 + concentration * (1.0 - proposal), spread)
    return torch.from_numpy(drawn.astype(np.float32))
