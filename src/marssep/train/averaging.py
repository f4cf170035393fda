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
        k = int(count)
        weight = 1.0 - min(decay, (1 + k) / (10 + k))
        floating = [(a, c) for a, c in zip(averages, current, strict=True) if a.is_floating_point()]
        if floating:
            torch._foreach_lerp_([a for a, _ in floating], [c.to(a.dtype) for a, c in floating], weight)
        for average, value in zip(averages, current, strict=True):
            if not average.is_floating_point():
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
