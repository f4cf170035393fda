"""Is the sound there? What the network says, and what the query encoder says when it listens to the target."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.model import ModelConfig
from marssep.query import QueryEncoder

WINDOWS = 8
"""Loudest stretches of the target that are listened to: enough to find a sound that comes now and then."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a sound being there.

    Attributes:
        network: logit of the network's presence output, the largest over the chunks.
        match: largest cosine between the query and the loudest stretches of the target, in [-1, 1]; 0 if the model
            does not use it.
    """

    network: float
    match: float

    def presence(self, config: ModelConfig) -> float:
        """Probability that the sound is there: a logistic regression whose weights were fitted on validation."""
        if self.network == -math.inf:  # digital silence
            return 0.0
        logit = config.presence_bias + config.presence_network * self.network + config.presence_match * self.match
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def listen(
    target: Float[Tensor, "c n"], sample_rate: int, query: Float[Tensor, " d"], encoder: QueryEncoder, *, seconds: float
) -> float:
    """Largest cosine between the query and the loudest stretches of the target.

    A sound that is not there leaves scraps of others in its target; they seldom sound like the query.

    Args:
        target: the separated sound, before any gate.
        sample_rate: Hz.
        query: unit-norm embedding.
        encoder: whose space the query lies in.
        seconds: length of a stretch.
    """
    return float((embed_stretches(target, sample_rate, encoder, seconds=seconds) @ query).max())


def embed_stretches(
    waveform: Float[Tensor, "c n"], sample_rate: int, encoder: QueryEncoder, *, seconds: float
) -> Float[Tensor, "s d"]:
    """Embeddings of the loudest stretches of a recording, at most `WINDOWS`; arguments as of `listen`."""
    mono = waveform.mean(0)
    size = min(len(mono), max(1, round(seconds * sample_rate)))
    starts = torch.linspace(0, len(mono) - size, -(-len(mono) // size), dtype=torch.float64).round().long().tolist()
    stretches = torch.stack([mono[start : start + size] for start in starts])
    loudest = stretches.square().mean(-1).topk(min(WINDOWS, len(stretches))).indices
    return torch.stack([encoder.embed_audio(stretches[k][None], sample_rate=sample_rate)[0] for k in loudest])
