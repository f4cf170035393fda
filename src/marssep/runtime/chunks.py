"""`marssep.separate.chunks` in numpy: the network over a recording of any length, cross-faded in the mask."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64

from marssep.runtime.folder import RuntimeConfig

_BATCH = 4  # chunks at once, and twice as many masks at most

Network = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Power `[b, bands, chunk]` and queries `[b, q, d]` to mask logits `[b, q, bands, chunk]` and presence `[b, q]`."""


class Listener:
    """The network over a recording whose columns come in order; what is finished of the mask comes out.

    Args:
        network: the exported one.
        query: the target's embedding, followed by those of sounds to remove; or, where only `logits` are wanted, any.
        config: of the exported model.
    """

    def __init__(self, network: Network, query: Float32[np.ndarray, "q d"], config: RuntimeConfig) -> None:
        self._network, self._query, self._config = network, query, config
        self._size = config.chunk_steps
        self._hop = max(1, round(self._size * (1.0 - config.overlap)))
        self._power = self._total = np.zeros((0, 0), dtype=np.float32)  # from column `_first` on
        self._weights = np.zeros(0, dtype=np.float32)
        self._first = self._next = 0
        self._batch = max(1, min(_BATCH, 2 * _BATCH // len(query)))
        self._heard: list[tuple[float, list[float]]] = []  # numbers: small arrays would be thousands in an hour

    @property
    def presence(self) -> float:
        """The first of `logits`."""
        return float(self.logits[0])

    @property
    def logits(self) -> Float32[np.ndarray, " q"]:
        """Largest logit of each sound being there over the chunks that can be heard; minus infinity in silence."""
        loudest = max(level for level, _ in self._heard)
        if not loudest:
            return np.full(len(self._query), -math.inf, dtype=np.float32)
        said = [logits for level, logits in self._heard if level >= self._config.quiet * loudest]
        return np.array(said, dtype=np.float32).max(axis=0)

    def push(self, columns: Float32[np.ndarray, "bands _"]) -> Float32[np.ndarray, "bands _"]:
        """Take more columns of power, at any level."""
        self._extend(columns)
        end = self._first + self._power.shape[1]
        starts = np.arange(self._next, end - self._size + 1, self._hop)
        self._hear(starts)
        if len(starts):
            self._next = int(starts[-1]) + self._hop
            return self._take(int(starts[-1]))  # no chunk to come begins before
        return self._take(self._first)

    def finish(self) -> Float32[np.ndarray, "bands _"]:
        """The rest, once all columns have come."""
        end = self._first + self._power.shape[1]
        room = max(0, end - self._size)
        if end < self._size:
            self._extend(np.zeros((len(self._power), self._size - end), dtype=np.float32))
        if room > self._next - self._hop:
            self._hear(np.array([room]))
        return self._take(end)

    def _extend(self, columns: np.ndarray) -> None:
        if not self._power.size:
            self._power = self._total = np.zeros((len(columns), 0), dtype=np.float32)
        self._power = np.concatenate([self._power, columns], axis=1)
        self._total = np.concatenate([self._total, np.zeros_like(columns)], axis=1)
        self._weights = np.append(self._weights, np.zeros(columns.shape[1], dtype=np.float32))

    def _hear(self, starts: Int64[np.ndarray, " k"]) -> None:
        ramp = np.arange(1, self._size + 1, dtype=np.float32)
        weight = np.minimum(ramp, ramp[::-1])
        for first in range(0, len(starts), self._batch):
            batch = starts[first : first + self._batch] - self._first
            places = [slice(start, start + self._size) for start in batch]
            chunks = np.stack([self._power[:, place] for place in places])
            query = np.repeat(self._query[None], len(chunks), axis=0)
            logits, heard = self._network(chunks * _normalise(chunks), query)
            for place, chunk, answer, presence in zip(places, chunks, logits, heard, strict=True):
                self._total[:, place] += _mask(answer, self._config.others) * weight
                self._weights[place] += weight
                self._heard.append((float(chunk.mean()), presence.tolist()))

    def _take(self, end: int) -> Float32[np.ndarray, "bands _"]:
        """The mask up to column `end`; what is before it is forgotten."""
        count = end - self._first
        mask = self._total[:, :count] / self._weights[:count]
        self._power, self._total, self._weights = (
            each[..., count:].copy() for each in (self._power, self._total, self._weights)
        )
        self._first = end
        return np.clip(mask, 0.0, 1.0)


def _normalise(power: Float32[np.ndarray, "b bands chunk"]) -> Float32[np.ndarray, "b 1 1"]:
    """Factor that brings the mean power to 1, silence around a sound left out (`marssep.model.normalise`)."""
    column = power.mean(1, keepdims=True)
    active = column > 1e-4 * column.max(-1, keepdims=True)
    mean = (column * active).sum(-1, keepdims=True) / np.maximum(active.sum(-1, keepdims=True), 1)
    return (1.0 / np.maximum(mean, 1e-12)).astype(np.float32)


def _mask(logits: Float32[np.ndarray, "q bands chunk"], others: float) -> Float32[np.ndarray, "bands chunk"]:
    target = logits[0]
    if len(logits) > 1:
        target = target - np.logaddexp(np.logaddexp.reduce(logits[1:]), np.float32(math.log(others)))
    return (0.5 * np.tanh(0.5 * target) + 0.5).astype(np.float32)  # the sigmoid, without overflow
