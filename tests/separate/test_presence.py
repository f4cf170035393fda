"""Presence: the network's logit and what the encoder hears in the target."""

import math

import numpy as np
import pytest
import torch

from marssep.model import ModelConfig
from marssep.query.encoder import load_encoder
from marssep.runtime.hearing import Heard, weigh_patches
from marssep.separate.presence import WINDOWS, Ear, Evidence, Gate, find_stretches

RATE = 8000


def _tone(seconds: float, frequency: float = 440.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def test_by_default_presence_is_the_networks() -> None:
    assert Evidence(0.7, Heard(0.9, 0.3, 0.4)).presence(ModelConfig()) == pytest.approx(1 / (1 + math.exp(-0.7)))


def test_a_match_speaks_for_presence() -> None:
    config = ModelConfig(presence_bias=-1.0, presence_network=0.5, presence_match=4.0)
    assert Evidence(0.0, Heard(0.5)).presence(config) > 0.5 > Evidence(0.0).presence(config)


def test_every_number_has_its_weight() -> None:
    config = ModelConfig(
        presence_bias=0.5, presence_network=2.0, presence_match=3.0, presence_spread=-4.0, presence_rival=-5.0
    )
    logit = 0.5 + 2.0 * 0.25 + 3.0 * 0.5 - 4.0 * 0.125 - 5.0 * 0.3
    presence = Evidence(0.25, Heard(0.5, 0.125, 0.3)).presence(config)
    assert presence == pytest.approx(1 / (1 + math.exp(-logit)))


@pytest.mark.parametrize("logit", [-1e9, 1e9])
def test_extreme_logits_do_not_overflow(logit: float) -> None:
    assert 0.0 <= Evidence(logit).presence(ModelConfig()) <= 1.0


def test_digital_silence_holds_nothing() -> None:
    assert Evidence(-math.inf, Heard(1.0)).presence(ModelConfig(presence_match=9.0)) == 0.0


def test_the_gate_is_slower_to_close_for_a_quiet_target() -> None:
    gate = Gate.of(ModelConfig(presence_threshold=0.5, quiet_threshold=0.1, quiet_db=15.0))
    verdicts = {(p, level): bool(gate.closed(p, level)) for p in (0.05, 0.3, 0.6) for level in (-14.9, -15.0)}
    assert verdicts == {
        (0.05, -14.9): True,
        (0.05, -15.0): True,
        (0.3, -14.9): True,
        (0.3, -15.0): False,
        (0.6, -14.9): False,
        (0.6, -15.0): False,
    }
    usual = Gate.of(ModelConfig(presence_threshold=0.5))
    assert usual.closed(0.3, -40.0)
    assert not usual.closed(0.5, -40.0)


def test_listening_finds_a_short_sound_in_a_long_target() -> None:
    encoder = load_encoder("tiny")
    query = encoder.embed_audio(_tone(1.0)[None], sample_rate=RATE)[0]
    target = torch.zeros(1, 30 * RATE)
    target[0, 11 * RATE : 12 * RATE] = _tone(1.0)
    heard = Ear.of(ModelConfig(), encoder).listen(find_stretches(target, RATE, seconds=1.0), query)
    assert heard.match == pytest.approx(1.0, abs=1e-3)
    assert (heard.spread, heard.rival) == (0.0, 0.0)


@pytest.mark.parametrize("length", [1, 100, RATE * 2 + 1, RATE * (WINDOWS + 5)])
def test_any_length_can_be_listened_to(length: int) -> None:
    encoder = load_encoder("tiny")
    query = encoder.embed_text(["tone"])[0]
    config = ModelConfig(presence_rivals=("hiss", "drone"))
    stretches = find_stretches(_tone(20.0)[None, :length], RATE, seconds=1.0)
    heard = Ear.of(config, encoder, wholly=True).listen(stretches, query)
    assert -1.0001 <= heard.match <= 1.0001
    assert 0.0 <= heard.spread <= 1.0
    assert -1.0001 <= heard.rival <= 1.0001


def test_a_model_without_weights_for_patches_spares_them() -> None:
    encoder = load_encoder("tiny")
    assert not Ear.of(ModelConfig(presence_match=1.0, presence_rivals=("hiss",)), encoder).patches
    assert Ear.of(ModelConfig(presence_spread=1.0), encoder).patches
    assert Ear.of(ModelConfig(presence_rival=1.0, presence_rivals=("hiss",)), encoder).rivals.shape == (1, 16)


def _unit(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32) / np.float32(math.hypot(*values))


def test_patches_by_hand() -> None:
    query = _unit(1, 0, 0)
    patches = np.stack([_unit(1, 0, 0), _unit(0, 1, 0), _unit(0, 0, 1)])
    power = np.array([1.0, 0.5, 0.001], dtype=np.float32)  # the last is too quiet to count
    rivals = np.stack([_unit(0, 1, 0), _unit(0, 0, 1), _unit(1, 1, 0)])  # the last may be what was asked for
    heard = weigh_patches(0.7, patches, power, query=query, rivals=rivals)
    assert heard.match == 0.7
    assert heard.spread == pytest.approx(0.5)  # of the cosines 1 and 0
    assert heard.rival == pytest.approx(0.5)  # 0 and 1
    assert weigh_patches(0.7, patches, power, query=query, rivals=rivals[2:]).rival == 0.0
    assert weigh_patches(0.7, patches, 0 * power, query=query, rivals=rivals).rival == pytest.approx(2 / 3)


def test_spread_and_rival_are_of_the_stretch_that_matches_best() -> None:
    encoder = load_encoder("tiny")
    tone, noise = _tone(4.0), 3.0 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0))
    query = encoder.embed_audio(tone[None], sample_rate=RATE)[0]
    ear = Ear.of(ModelConfig(presence_rivals=("hiss",)), encoder, wholly=True)
    alone = ear.listen(find_stretches(tone[None], RATE, seconds=4.0), query)
    among = ear.listen(find_stretches(torch.cat([noise, tone])[None], RATE, seconds=4.0), query)
    assert among.match == pytest.approx(alone.match, abs=1e-5)
    assert among.spread == pytest.approx(alone.spread, abs=1e-5)
    assert among.rival == pytest.approx(alone.rival, abs=1e-5)
