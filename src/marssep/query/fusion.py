"""Several query embeddings into one: the weighted sum of the paper, random mixing in training, negatives."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from torch import Tensor

from marssep.errors import UsageError
from marssep.query.encoder import MODALITIES, Modality

DEFAULT_WEIGHTS: Mapping[Modality, float] = MappingProxyType({"text": 2.0, "audio": 1.0, "image": 2.0})
"""OmniSep's weights for composed queries."""


def fuse(
    embeddings: Mapping[Modality, Float32[Tensor, "... d"]], weights: Mapping[Modality, float] | None = None
) -> Float32[Tensor, "... d"]:
    """Weighted sum of the given modalities, weights summing to 1, brought back to length 1 (Eq. 1).

    Args:
        embeddings: unit norm; any of the modalities.
        weights: >= 0; those of missing modalities are left out; `DEFAULT_WEIGHTS` for what is not named.

    Raises:
        UsageError: nothing to fuse, an unknown modality, a negative weight, or all weights 0.
    """
    if not embeddings:
        raise UsageError("There is no query embedding to fuse; give text, audio or an image.")
    chosen = {**DEFAULT_WEIGHTS, **(weights or {})}
    if unknown := [name for name in chosen if name not in MODALITIES]:
        raise UsageError(f"Unknown modality '{unknown[0]}' in the query weights; known: {', '.join(MODALITIES)}.")
    used = {name: float(chosen[name]) for name in embeddings}
    total = sum(used.values())
    if min(used.values()) < 0 or not 0 < total < float("inf"):
        stated = ", ".join(f"{name} {weight:g}" for name, weight in used.items())
        raise UsageError(f"The query weights ({stated}) must be >= 0 and not all 0.")
    rows = [embeddings[name] * (used[name] / total) for name in embeddings]
    return F.normalize(torch.stack(rows).sum(0), dim=-1)


def negate(
    query: Float32[Tensor, "... d"], negative: Float32[Tensor, "... d"], strength: float = 0.5
) -> Float32[Tensor, "... d"]:
    """Move a query away from a sound that is not wanted: `(1 + a) Q - a Q_N` (OmniSep).

    Args:
        query: what is wanted.
        negative: what is not wanted.
        strength: a, >= 0; 0 leaves the query as it is.
    """
    return (1 + strength) * query - strength * negative


def query_mixup(
    embeddings: Mapping[Modality, Float32[Tensor, "b d"]],
    *,
    generator: torch.Generator | None = None,
    present: Mapping[Modality, Bool[Tensor, " b"]] | None = None,
) -> Float32[Tensor, "b d"]:
    """Random convex mixture of the modalities of each example (OmniSep's query-mixup), of length 1.

    The weights are uniform on the simplex of what is present, so single modalities and even mixtures all occur.

    Args:
        embeddings: one tensor per modality; rows that are not present may hold anything finite.
        generator: source of randomness.
        present: which rows of a modality are there; all if not named. Every row needs one modality.

    Raises:
        UsageError: no modality at all, or a row without any.
    """
    names = list(embeddings)
    if not names:
        raise UsageError("There is no query embedding to mix; give at least one modality.")
    stacked = torch.stack([embeddings[name] for name in names])
    shape = stacked.shape[:-1]
    uniform = torch.rand(shape, generator=generator, device=generator.device if generator else None)
    weights = -torch.log(uniform.clamp_min(1e-9)).to(stacked)  # exponential variables: their shares are uniform
    if present is not None:
        there = [present.get(name, torch.ones(shape[1:], dtype=torch.bool)).to(stacked.device) for name in names]
        weights = torch.where(torch.stack(there), weights.clamp_min(1e-9), weights.new_zeros(()))
    total = weights.sum(0)
    if bool((total <= 0).any()):
        raise UsageError("A query has no modality at all; each needs text, audio or an image.")
    return F.normalize((stacked * (weights / total).unsqueeze(-1)).sum(0), dim=-1)
