"""`marssep.separate.chunks` in numpy: the network over a recording of any length, cross-faded in the mask."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from marssep.runtime.folder import RuntimeConfig

_BATCH = 4  # chunks at once

Network = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Power `[b, bands, chunk]` and queries `[b, q, d]` to mask logits `[b, q, bands, chunk]` and presence `[b, q]`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the network says of a whole recording.

    Attributes:
        mask: in [0, 1].
        presence: logit of the sound being there; minus infinity in digital silence.
    """

    mask: Float32[np.ndarray, "bands steps"]
    presence: float


def propose(
    network: Network,
    power: Float32[np.ndarray, "bands steps"],
    query: Float32[np.ndarray, "q d"],
    config: RuntimeConfig,
) -> Proposal:
    """Run the network over the grid of a recording.

    Args:
        network: the exported one.
        power: of the mixture on the grid, at any level.
        query: the target's embedding and, as an optional second row, that of a sound to remove.
        config: of the exported model.
    """
    if not power.any():  # digital silence: nothing is there
        return Proposal(np.zeros_like(power), -math.inf)
    n_steps, size = power.shape[1], config.chunk_steps
    starts = chunk_starts(n_steps, size, config.overlap)
    padded = np.pad(power, ((0, 0), (0, max(0, size - n_steps))))
    level = np.array([padded[:, start : start + size].mean() for start in starts])
    total, weights = np.zeros_like(padded), np.zeros(padded.shape[1], dtype=np.float32)
    ramp = np.arange(1, size + 1, dtype=np.float32)
    weight = np.minimum(ramp, ramp[::-1])
    presence = -math.inf
    for first in range(0, len(starts), _BATCH):
        batch = starts[first : first + _BATCH]
        chunks = np.stack([padded[:, start : start + size] for start in batch])
        logits, heard = network(chunks * _normalise(chunks), np.repeat(query[None], len(batch), axis=0))
        for k, start in enumerate(batch):
            total[:, start : start + size] += _mask(logits[k], config.others) * weight
            weights[start : start + size] += weight
            if level[first + k] >= config.quiet * level.max():
                presence = max(presence, float(heard[k, 0]))
    return Proposal(np.clip((total / weights)[:, :n_steps], 0.0, 1.0), presence)


def chunk_starts(n_steps: int, chunk_steps: int, overlap: float) -> Int64[np.ndarray, " k"]:
    """First columns of the chunks of `n_steps` columns; each shares at least `overlap` with the next."""
    if n_steps <= chunk_steps:
        return np.zeros(1, dtype=np.int64)
    room = n_steps - chunk_steps
    starts = np.arange(0, room + 1, max(1, round(chunk_steps * (1.0 - overlap))))
    return starts if starts[-1] == room else np.append(starts, room)


def _normalise(power: Float32[np.ndarray, "b bands chunk"]) -> Float32[np.ndarray, "b 1 1"]:
    """Factor that brings the mean power to 1, silence around a sound left out (`marssep.model.normalise`)."""
    column = power.mean(1, keepdims=True)
    active = column > 1e-4 * column.max(-1, keepdims=True)
    mean = (column * active).sum(-1, keepdims=True) / np.maximum(active.sum(-1, keepdims=True), 1)
    return (1.0 / np.maximum(mean, 1e-12)).astype(np.float32)


def _mask(logits: Float32[np.ndarray, "q bands chunk"], others: float) -> Float32[np.ndarray, "bands chunk"]:
    target = logits[0]
    if len(logits) > 1:
        target = target - np.logaddexp(logits[1], np.float32(math.log(others)))
    return (0.5 * np.tanh(0.5 * target) + 0.5).astype(np.float32)  # the sigmoid, without overflow
