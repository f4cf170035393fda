"""Several query embeddings into one: the weighted sum of the paper, random mixing in training, negatives."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from marssep.errors import UsageError
from marssep.runtime.fusing import Modality, shares


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
    parts = shares(embeddings, weights)
    rows = [place * parts[name] for name, place in embeddings.items()]
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
    embeddings: Mapping[Modality, Float32[np.ndarray, " d"]], rng: np.random.Generator
) -> Float32[np.ndarray, " d"]:
    """Random convex mixture of the modalities of one example: uniform weights, brought to sum 1 (OmniSep).

    Args:
        embeddings: unit norm; the modalities that the example has.
        rng: source of randomness.

    Raises:
        UsageError: no modality at all.
    """
    if not embeddings:
        raise UsageError("There is no query embedding to mix; give at least one modality.")
    weights = rng.random(len(embeddings)).astype(np.float32)
    mixed: np.ndarray = np.tensordot(weights / weights.sum(), np.stack(list(embeddings.values())), 1)
    return mixed
