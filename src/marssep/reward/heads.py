"""Heads of the reward encoder: those of the query encoder to start from, and one for what the trunk does not hear."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor, nn


class AdaptedHead(nn.Module):
    """A head that has nothing to train, plus a low-rank linear map of the same features that has; zero at first."""

    def __init__(self, base: nn.Module, n_features: int, dimension: int, *, rank: int) -> None:
        """Wrap a head.

        Args:
            base: features -> unit-norm embeddings; stays as it is.
            n_features: of the trunk.
            dimension: of the embeddings.
            rank: of the map.
        """
        super().__init__()
        self.base = base
        self.inward = nn.Linear(n_features, rank, bias=False)
        self.outward = nn.Linear(rank, dimension, bias=False)
        nn.init.orthogonal_(self.inward.weight)
        nn.init.zeros_(self.outward.weight)

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        mean, spread = self.base.get_buffer("mean"), self.base.get_buffer("spread")
        added = self.outward(self.inward((features - mean) / spread) * features.shape[-1] ** -0.5)
        return F.normalize(self.base(features) + added, dim=-1)


class DetailHead(nn.Module):
    """A linear map of the spectral picture less that of the average sound, brought to length 1.

    Without the average taken away, any two sounds are alike; without training, the map is a random rotation.
    """

    def __init__(self, cells: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(cells))
        self.mean: Tensor
        self.linear = nn.Linear(cells, dimension, bias=False)
        nn.init.orthogonal_(self.linear.weight)

    def forward(self, cells: Float32[Tensor, "b c"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        return F.normalize(self.linear(cells - self.mean), dim=-1)


def starting_head(head: nn.Module, *, n_features: int, dimension: int, rank: int) -> nn.Module:
    """A copy of a head of the query encoder, or an adapted one if there is nothing in it to train."""
    own = copy.deepcopy(head)
    if any(True for _ in own.parameters()):
        return own
    return AdaptedHead(own, n_features, dimension, rank=rank)


def reset_head(head: nn.Module) -> None:
    """Forget all training but the standardisation of the inputs: the stage before any alignment."""
    for module in head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    places = dict(head.named_buffers()).get("places")
    if places is not None:
        places.copy_(F.normalize(torch.randn_like(places), dim=-1))
