"""Losses and figures of the alignment of modalities: how well the same thing lands in the same place (paper, Eq. 7)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor, nn

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.02, 1.0


class Temperature(nn.Module):
    """A learnable temperature, kept where the softmax neither saturates nor goes flat."""

    def __init__(self, initial: float = 0.07) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(initial).log())

    def forward(self) -> Tensor:
        """The temperature, a scalar in [0.02, 1]."""
        return self.log_value.exp().clamp(_MIN_TEMPERATURE, _MAX_TEMPERATURE)


def info_nce_loss(
    queries: Float32[Tensor, "n d"],
    keys: Float32[Tensor, "m d"],
    *,
    positives: Bool[Tensor, "n m"],
    temperature: Tensor | float,
) -> Float32[Tensor, ""]:
    """Symmetric InfoNCE with any number of positives per row (Khosla et al. 2020, "out" form; Eq. 7 with one each).

    `mean over i of mean over positives j of -log softmax_j(queries_i . keys_j / temperature)`, averaged with the same
    in the other direction. Rows without a positive are left out.

    Args:
        queries: unit norm.
        keys: unit norm.
        positives: which pairs show the same thing.
        temperature: > 0.
    """
    logits = queries @ keys.T / temperature
    return (_one_way(logits, positives) + _one_way(logits.T, positives.T)) / 2


def _one_way(logits: Tensor, positives: Tensor) -> Tensor:
    counts = positives.sum(1)
    surprise = -(logits.log_softmax(1) * positives).sum(1) / counts.clamp_min(1)
    kept = (counts > 0).to(logits.dtype)
    return (surprise * kept).sum() / kept.sum().clamp_min(1)


def geometry_loss(
    embeddings: Float32[Tensor, "n d"], features: Float32[Tensor, "n f"], temperature: float = 0.1
) -> Float32[Tensor, ""]:
    """Keep who is whose neighbour: Kullback-Leibler divergence from similarities of features to those of embeddings.

    Trained on words that no recording has, it makes their places mean what the text trunk says.
    """
    n = len(embeddings)
    others = ~torch.eye(n, dtype=torch.bool, device=embeddings.device)

    def similarities(rows: Tensor) -> Tensor:
        return (rows @ rows.T / temperature)[others].view(n, n - 1).log_softmax(1)

    wanted = similarities(F.normalize(features - features.mean(0), dim=-1)).detach()
    return F.kl_div(similarities(embeddings), wanted, log_target=True, reduction="batchmean")


def label_accuracy(
    queries: Float32[Tensor, "n d"],
    keys: Float32[Tensor, "m d"],
    query_labels: Sequence[int],
    key_labels: Sequence[int],
) -> Float32[Tensor, " n"]:
    """1 where the nearest key has the query's label, else 0."""
    nearest = (queries @ keys.T).argmax(1).tolist()
    hits = [key_labels[index] == label for index, label in zip(nearest, query_labels, strict=True)]
    return torch.tensor(hits, dtype=torch.float32)
