"""What every mask network promises: power on the grid and query embeddings in, mask logits and presence out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

FLOOR = 1e-6
"""Power floor of the features relative to the mixture's mean power: 60 dB below it."""


@dataclass(frozen=True, slots=True)
class MaskOutput:
    """What a network says of each query.

    Attributes:
        logits: mask before the sigmoid; the mask is the proposal P of the paper.
        presence: logit of the sound being there at all.
        noise: logits of masks for what no query asks for; only in training, and only of a `unet` that has them.
    """

    logits: Float[Tensor, "b q bands steps"]
    presence: Float[Tensor, "b q"]
    noise: Float[Tensor, "b m bands steps"] | None = None


class MaskNetwork(nn.Module, ABC):
    """Base of the architectures in `marssep.model.ARCHITECTURES`.

    `forward` takes `power` (mean power per grid cell; the mixture's mean over cells should be near 1, see
    `normalise`) and `query` (unit-norm embeddings, q per mixture).
    """

    def __init__(self, *, n_bands: int, query_dimension: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.query_dimension = query_dimension

    @abstractmethod
    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        """Mask logits and presence for every query of every mixture."""

    @abstractmethod
    def sharpen(self, factor: float) -> None:
        """Multiply every mask logit by `factor` from now on, by scaling the last layer."""

    @staticmethod
    def features(power: Float[Tensor, "b bands steps"]) -> Float[Tensor, "b bands steps"]:
        """Log power, scaled to about [-1.5, 1.5]."""
        return torch.log(power + FLOOR).div(5.0).add(1.2)


def normalise(power: Float[Tensor, "*b bands steps"]) -> Float[Tensor, "*b 1 1"]:
    """Factor that brings the mean power of the mixture to 1, so that the level of a recording does not matter.

    The mean is taken over the cells within 40 dB of the loudest column, so that silence around a sound is not counted.
    """
    column = power.mean(-2, keepdim=True)
    active = column > 1e-4 * column.amax(-1, keepdim=True)
    mean = (column * active).sum(-1, keepdim=True) / active.sum(-1, keepdim=True).clamp_min(1)
    return 1.0 / mean.clamp_min(1e-12)
