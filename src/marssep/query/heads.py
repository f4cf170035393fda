"""Projection heads: features of a frozen trunk to a place on the shared unit sphere."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor, nn

_BEST = 10  # classes that count, as in the paper on ConSE


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


class MixtureHead(nn.Module):
    """Guesses among classes, and the mean of their places weighted by the guesses, brought to length 1.

    A feature that fits two classes lands between them instead of on the wrong one. Without any class fitted, it has
    one, at a fixed place.
    """

    def __init__(self, n_features: int, dimension: int) -> None:
        """Make a head that is not fitted.

        Args:
            n_features: of the trunk.
            dimension: of the shared space.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.register_buffer("weight", torch.zeros(1, n_features))
        self.register_buffer("bias", torch.zeros(1))
        self.register_buffer("places", F.normalize(torch.ones(1, dimension), dim=-1))
        self.mean: Tensor
        self.spread: Tensor
        self.weight: Tensor
        self.bias: Tensor
        self.places: Tensor

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        return F.normalize(self.guesses(features) @ self.places, dim=-1)

    def guesses(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b c"]:
        """Chances of the classes, summing to 1; they stand at `places`."""
        return F.linear((features - self.mean) / self.spread, self.weight, self.bias).softmax(-1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """As many classes as the file has."""
        found = {name: state_dict.get(prefix + name) for name in ("weight", "bias", "places")}
        counts = {len(rows) for rows in found.values() if rows is not None and rows.ndim}
        if len(counts) == 1:
            for name in found:
                buffer = self.get_buffer(name)
                setattr(self, name, buffer.new_zeros(max(counts), *buffer.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class NamingHead(nn.Module):
    """Names of the classes a stock classifier hears or sees, weighted by its posteriors (ConSE, Norouzi et al. 2014).

    Nothing in it is trained by us: classifier and names come with the trunks.
    """

    def __init__(
        self, classifier: nn.Linear, names: Float32[Tensor, "c f"], *, exclusive: bool, dimension: int
    ) -> None:
        """Copy a classifier.

        Args:
            classifier: takes the first of the trunk's features.
            names: unit-norm places of its classes.
            exclusive: one class at a time (softmax), or any number of them (sigmoid).
            dimension: of the shared space, at least f; the rest is zero.
        """
        super().__init__()
        self.exclusive, self.n_inputs, self.best = exclusive, classifier.in_features, min(_BEST, len(names))
        self.register_buffer("weight", classifier.weight.detach().clone())
        self.register_buffer("bias", classifier.bias.detach().clone())
        self.register_buffer("places", pad_to(names, dimension))
        self.weight: Tensor
        self.bias: Tensor
        self.places: Tensor

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        logits = F.linear(features[:, : self.n_inputs], self.weight, self.bias)
        posteriors, classes = (logits.softmax(-1) if self.exclusive else torch.sigmoid(logits)).topk(self.best, dim=-1)
        return F.normalize((posteriors[..., None] * self.places[classes]).sum(1), dim=-1)


class PlainHead(nn.Module):
    """The features themselves, brought to length 1 and filled up with zeros."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, features: Float32[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings."""
        return pad_to(F.normalize(features, dim=-1), self.dimension)


def pad_to(rows: Float32[Tensor, "b f"], dimension: int) -> Float32[Tensor, "b d"]:
    """Zeros up to a dimension, which change no cosine."""
    return F.pad(rows, (0, dimension - rows.shape[-1]))
