"""Projection heads: features of a frozen trunk to a place on the shared unit sphere."""

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Standardise, then a linear map plus a small network with one hidden layer, then length 1."""

    def __init__(self, n_features: int, dimension: int, *, hidden: int = 256, dropout: float = 0.2) -> None:
        """Make a head that is not trained.

        Args:
            n_features: of the trunk.
            dimension: of the shared space.
            hidden: width of the hidden layer.
            dropout: share of inputs and hidden values dropped in training.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.mean: Tensor
        self.spread: Tensor
        self.linear = nn.Linear(n_features, dimension)
        self.hidden = nn.Linear(n_features, hidden)
        self.output = nn.Linear(hidden, dimension, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        inputs = self.dropout((features - self.mean) / self.spread)
        made = self.linear(inputs) + self.output(self.dropout(F.gelu(self.hidden(inputs))))
        return F.normalize(made, dim=-1)
