"""A picture may show several things: the mixture has a say in which of them was meant (decision 0008)."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from marssep.model import LoadedModel, ModelConfig
from marssep.query import QueryEncoder, Readings
from marssep.separate.chunks import hear
from marssep.separate.presence import embed_stretches


@dataclass(frozen=True, slots=True)
class Settled:
    """A query that was not sure of itself, after a look at the mixture.

    Attributes:
        embedding: its readings, weighted by how much speaks for each being in the mixture.
        presence: log-odds of what was meant being in the mixture.
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

    The log-odds of a reading being in the mixture are `a + b * (presence logit of the network) + c * (cosine with what
    the encoder hears in the mixture)`. With p the chances of the readings and o these odds, the readings are weighted
    by p o, and the odds of the sound being there are the sum of p o: a reading that is present but unlikely to be meant
    says little. (The odds of the mean probability ranked present above absent pictures less often.)

    Args:
        model: its config has a, b and c (`reading_bias`, `reading_network`, `reading_match`).
        encoder: whose space the readings lie in.
        readings: of the query.
        mixture: the recording.
        sample_rate: Hz.
        power: of the mixture on the grid, at any level.
    """
    heard = hear(model.network, power, readings.places, chunk_steps=model.config.chunk_steps).presence
    stretches = None
    if model.config.reading_match:
        stretches = embed_stretches(mixture, sample_rate, encoder, seconds=model.chunk_seconds)
    return weigh(model.config, readings, heard, stretches)


def weigh(
    config: ModelConfig,
    readings: Readings,
    heard: Float[Tensor, " k"],
    stretches: Float[Tensor, "s d"] | None,
) -> Settled:
    """As `settle`, from what was heard already.

    Args:
        config: as of `settle`'s model.
        readings: of the query.
        heard: the network's presence logit of every reading; minus infinity in digital silence.
        stretches: embeddings of the loudest stretches of the mixture, if the model uses them.
    """
    if bool(heard.isneginf().all()):
        return Settled(readings.embedding, -math.inf)
    evidence = config.reading_bias + config.reading_network * heard
    if config.reading_match and stretches is not None:
        evidence = evidence + config.reading_match * (stretches @ readings.places.T).amax(0)
    presence = (readings.chances.log() + evidence).logsumexp(0)
    return Settled(readings.reweighted(evidence), float(presence))
