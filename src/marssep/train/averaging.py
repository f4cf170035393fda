"""The moving average of the weights, which is what is validated and kept."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of parameters and buffers.

    Args:
        network: what is trained.
        decay: final decay per step, in [0, 1). It ramps up as (1 + k) / (10 + k), so that the random initial weights
            are forgotten at once.
    """

    def update(
        averages: tuple[Tensor, ...] | list[Tensor], current: tuple[Tensor, ...] | list[Tensor], count: Tensor | int
    ) -> None:
        floating = [(a, c.to(a.dtype)) for a, c in zip(averages, current, strict=True) if a.is_floating_point()]
        if floating:
            kept, given = (list(each) for each in zip(*floating, strict=True))
            # One weight for all as a tensor: asking a GPU for the count would wait for all its work, every step.
            k = torch.as_tensor(count, device=kept[0].device)
            weight = 1.0 - ((1 + k) / (10 + k)).clamp_max(decay)
            steps = torch._foreach_sub(given, kept)
            torch._foreach_mul_(steps, weight)
            torch._foreach_add_(kept, steps)
        for average, value in zip(averages, current, strict=True):
            if not average.is_floating_point():
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
