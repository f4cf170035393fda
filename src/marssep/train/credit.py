"""Counterfactual credit: what the reward of a mask loses when one block of it goes back to the proposal."""

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.reward.grid import GridRewards, GridTruth


@torch.no_grad()
def counterfactual_rewards(
    rewards: GridRewards,
    total: Float[Tensor, "b q g"],
    masks: Float[Tensor, "b q g bands steps"],
    proposal: Float[Tensor, "b q bands steps"],
    truth: GridTruth,
    *,
    blocks: int,
) -> Float[Tensor, "b q g blocks blocks"]:
    """R(mask) - R(mask with the block as proposed), block by block: the cost is `blocks` squared rewards a mask.

    Args:
        rewards: scores masks.
        total: rewards of the masks themselves.
        masks: that were tried.
        proposal: what they were drawn around.
        truth: of the mixtures.
        blocks: along either side of the grid.
    """
    bands, steps = masks.shape[-2:]
    rows = torch.arange(bands, device=masks.device) * blocks // bands
    columns = torch.arange(steps, device=masks.device) * blocks // steps
    found = masks.new_empty((*total.shape, blocks, blocks))
    for row in range(blocks):
        for column in range(blocks):
            inside = (rows == row)[:, None] & (columns == column)[None]
            found[..., row, column] = total - rewards(torch.where(inside, proposal[:, :, None], masks), truth).total
    return found
