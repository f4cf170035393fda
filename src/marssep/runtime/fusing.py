"""How several kinds of one query are weighed (Eq. 1); both engines have it from here."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float32

from marssep.errors import UsageError

Modality = Literal["text", "audio", "image"]
MODALITIES: tuple[Modality, ...] = ("text", "audio", "image")
DEFAULT_WEIGHTS: Mapping[Modality, float] = MappingProxyType({"text": 2.0, "audio": 1.0, "image": 2.0})
"""OmniSep's weights for composed queries."""


def shares(given: Iterable[Modality], weights: Mapping[Modality, float] | None = None) -> dict[Modality, float]:
    """Weights of the kinds that a query has, summing to 1.

    Args:
        given: kinds of the query.
        weights: >= 0; those of missing kinds are left out; `DEFAULT_WEIGHTS` for what is not named.

    Raises:
        UsageError: an unknown kind, a negative weight, or all weights 0.
    """
    chosen = {**DEFAULT_WEIGHTS, **(weights or {})}
    if unknown := [name for name in chosen if name not in MODALITIES]:
        raise UsageError(f"Unknown modality '{unknown[0]}' in the query weights; known: {', '.join(MODALITIES)}.")
    used = {name: float(chosen[name]) for name in given}
    total = sum(used.values())
    if min(used.values()) < 0 or not 0 < total < float("inf"):
        stated = ", ".join(f"{name} {weight:g}" for name, weight in used.items())
        raise UsageError(f"The query weights ({stated}) must be >= 0 and not all 0.")
    return {name: weight / total for name, weight in used.items()}


def fuse(
    embeddings: Mapping[Modality, Float32[np.ndarray, " d"]], weights: Mapping[Modality, float] | None = None
) -> Float32[np.ndarray, " d"]:
    """Weighted sum, brought back to length 1, as `marssep.query.fuse`.

    Args:
        embeddings: unit norm, at least one.
        weights: see `shares`.
    """
    parts = shares(embeddings, weights)
    total = np.sum([np.float32(parts[name]) * place for name, place in embeddings.items()], axis=0)
    made: np.ndarray = (total / max(np.linalg.norm(total), 1e-12)).astype(np.float32)
    return made
