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
    """The spectral picture less that of the average sound, mapped linearly to length 1, then to a sphere of waves.

    Without the average taken away, any two sounds are alike. The waves (random Fourier features, Rahimi and Recht 2007)
    make of the cosine c of two linear places about `exp((c - 1) / width^2)`: a mixture that its target dominates is
    0.6 like it on the line and 0.35 in waves, in an order that hardly changes. The linear map is trained, the waves are
    not: when they were, exploration fell on validation while the gap rose.
    """

    def __init__(self, cells: int, dimension: int, *, inner: int | None = None, width: float = 0.0) -> None:
        """Make a head that is not trained: a random rotation and random waves.

        Args:
            cells: of the picture.
            dimension: of the places; with waves even, a sine and a cosine of each.
            inner: of the linear places, if there are waves.
            width: of the bell that the waves make, the smaller, the farther apart unlike sounds are; 0 for no waves.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(cells))
        self.mean: Tensor
        inner = inner or dimension
        self.linear = nn.Linear(cells, inner if width else dimension, bias=False)
        nn.init.orthogonal_(self.linear.weight)
        self.register_buffer("waves", torch.randn(dimension // 2, inner) / width if width else None)
        self.waves: Tensor | None

    def forward(self, cells: Float32[Tensor, "b c"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        placed = F.normalize(self.linear(cells - self.mean), dim=-1)
        if self.waves is None:
            return placed
        phases = placed @ self.waves.T
        return torch.cat([phases.cos(), phases.sin()], dim=-1) * phases.shape[-1] ** -0.5


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
