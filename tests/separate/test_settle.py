"""A picture's readings are settled by what is present in the mixture."""

import math

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from marssep.model import LoadedModel, MaskNetwork, MaskOutput, ModelConfig
from marssep.query import Readings, load_encoder
from marssep.separate.settling import Settled, settle


class _Hears(MaskNetwork):
    """Says that a sound is present by the first coordinate of its query."""

    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        return MaskOutput(power[:, None].expand(-1, query.shape[1], -1, -1) * 0.0, 10.0 * query[..., 0])

    def sharpen(self, factor: float) -> None:
        raise NotImplementedError


NETWORK = _Hears(n_bands=4, query_dimension=2)
POWER = torch.ones(4, 8)
PRESENT, ABSENT = torch.tensor([0.6, 0.8]), torch.tensor([-0.6, 0.8])


def _settle(readings: Readings, power: torch.Tensor = POWER, network: float = 1.0) -> Settled:
    config = ModelConfig(reading_bias=0.0, reading_network=network, reading_match=0.0, chunk_steps=8)
    model = LoadedModel(NETWORK, config, {}, "")
    return settle(model, load_encoder("tiny"), readings, mixture=torch.ones(1, 8), sample_rate=8000, power=power)


def _readings(chance: float) -> Readings:
    return Readings.of(torch.stack([PRESENT, ABSENT]), torch.tensor([chance, 1.0 - chance]))


def test_the_mixture_overrules_an_unsure_picture() -> None:
    settled = _settle(_readings(0.3))
    torch.testing.assert_close(settled.embedding, PRESENT, atol=1e-3, rtol=0.0)


def test_without_evidence_the_mixture_leaves_the_picture_alone() -> None:
    readings = _readings(0.3)
    settled = _settle(readings, network=0.0)
    torch.testing.assert_close(settled.embedding, readings.embedding)


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.98])
def test_the_odds_of_presence_are_the_mean_of_the_readings_odds(chance: float) -> None:
    settled = _settle(_readings(chance))
    odds = chance * math.exp(6.0) + (1 - chance) * math.exp(-6.0)
    assert math.exp(settled.presence) == pytest.approx(odds, rel=1e-4)


def test_silence_settles_nothing() -> None:
    readings = _readings(0.3)
    settled = _settle(readings, torch.zeros(4, 8))
    assert settled.presence == -math.inf
    torch.testing.assert_close(settled.embedding, readings.embedding)


def test_what_is_heard_in_the_mixture_speaks_too() -> None:
    encoder = load_encoder("tiny")
    tone = torch.sin(torch.arange(8000) * 0.3)[None]
    heard = encoder.embed_audio(tone, sample_rate=8000)[0]
    config = ModelConfig(reading_bias=0.0, reading_network=0.0, reading_match=20.0, chunk_steps=8)
    readings = Readings.of(torch.stack([heard, -heard]), torch.tensor([0.3, 0.7]))
    settled = settle(
        LoadedModel(NETWORK, config, {}, ""), encoder, readings, mixture=tone, sample_rate=8000, power=POWER
    )
    torch.testing.assert_close(settled.embedding, heard, atol=1e-4, rtol=0.0)
    assert settled.presence == pytest.approx(20.0 + math.log(0.3), abs=0.05)  # a stretch is not the whole tone
