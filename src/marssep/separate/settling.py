"""A picture may show several things: the mixture has a say in which of them was meant (decision 0008)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.model import LoadedModel
from marssep.query import QueryEncoder, Readings
from marssep.separate.chunks import hear
from marssep.separate.presence import embed_stretches

_SURE = 1e-6  # nothing is surer than this; keeps logits finite


@dataclass(frozen=True, slots=True)
class Settled:
    """A query that was not sure of itself, after a look at the mixture.

    Attributes:
        embedding: its readings, weighted by how much speaks for each being in the mixture.
        presence: logit of any of them being what was meant and in the mixture.
    """

    embedding: Float[Tensor, " d"]
    presence: float


def settle(
    model: LoadedModel,
    encoder: QueryEncoder,
    readings: Readings,
    *,
    mixture: Float[Tensor, "c n"],
    sample_rate: int,
    power: Float[Tensor, "bands steps"],
) -> Settled:
    """Let the mixture decide between the readings of a query.

    What speaks for a reading being in the mixture is `a + b * (presence logit of the network) + c * (cosine with what
    the encoder hears in the mixture)`. With that as log-odds, p the chances of the readings and s the probabilities,
    the readings are weighted by p s / (1 - s), and the sound is there with probability sum of p s: a reading that is
    present but unlikely to be meant says little.

    Args:
        model: its config has a, b and c (`reading_bias`, `reading_network`, `reading_match`).
        encoder: whose space the readings lie in.
        readings: of the query.
        mixture: the recording.
        sample_rate: Hz.
        power: of the mixture on the grid, at any level.
    """
    if not power.any():  # digital silence
        return Settled(readings.embedding, -math.inf)
    config = model.config
    heard = hear(model.network, power, readings.places, chunk_steps=config.chunk_steps).presence
    evidence = config.reading_bias + config.reading_network * heard
    if config.reading_match:
        stretches = embed_stretches(mixture, sample_rate, encoder, seconds=model.chunk_seconds)
        evidence = evidence + config.reading_match * (stretches @ readings.places.T).amax(0)
    believed = (readings.chances * torch.sigmoid(evidence)).sum().clamp(_SURE, 1.0 - _SURE)
    return Settled(readings.reweighted(evidence), float(torch.logit(believed)))
