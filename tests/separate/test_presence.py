"""Presence: the network's logit and what the encoder hears in the target."""

import math

import pytest
import torch

from marssep.model import ModelConfig
from marssep.query.encoder import load_encoder
from marssep.separate.presence import WINDOWS, Evidence, Gate, listen

RATE = 8000


def _tone(seconds: float, frequency: float = 440.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def test_by_default_presence_is_the_networks() -> None:
    assert Evidence(0.7, 0.9).presence(ModelConfig()) == pytest.approx(1 / (1 + math.exp(-0.7)))


def test_a_match_speaks_for_presence() -> None:
    config = ModelConfig(presence_bias=-1.0, presence_network=0.5, presence_match=4.0)
    assert Evidence(0.0, 0.5).presence(config) > 0.5 > Evidence(0.0, 0.0).presence(config)


@pytest.mark.parametrize("logit", [-1e9, 1e9])
def test_extreme_logits_do_not_overflow(logit: float) -> None:
    assert 0.0 <= Evidence(logit, 0.0).presence(ModelConfig()) <= 1.0


def test_digital_silence_holds_nothing() -> None:
    assert Evidence(-math.inf, 1.0).presence(ModelConfig(presence_match=9.0)) == 0.0


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
    assert listen(target, RATE, query, encoder, seconds=1.0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("length", [1, 100, RATE * 2 + 1, RATE * (WINDOWS + 5)])
def test_any_length_can_be_listened_to(length: int) -> None:
    encoder = load_encoder("tiny")
    query = encoder.embed_text(["tone"])[0]
    match = listen(_tone(20.0)[None, :length], RATE, query, encoder, seconds=1.0)
    assert -1.0001 <= match <= 1.0001
