"""Chunks cover everything, fade into each other, and say whether the sound is there."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.model import MaskNetwork, MaskOutput
from marssep.separate.chunks import OTHERS, OVERLAP, cross_fade, hear, propose

CHUNK = 16


class _Fake(MaskNetwork):
    """Mask and presence follow the first number of the query and the power, whatever the level was."""

    def __init__(self):
        super().__init__(n_bands=4, query_dimension=2)
        self.seen = []

    def forward(self, power, query):
        self.seen.append(power)
        logits = query[..., :1, None] * torch.ones_like(power)[:, None]
        return MaskOutput(logits, query[..., 1] + power.amax((1, 2))[:, None])

    def sharpen(self, factor):
        raise NotImplementedError


def _power(steps):
    return 1e-3 * torch.rand(4, steps, generator=torch.Generator().manual_seed(0)) + 1e-4


def _starts(n_steps, chunk_steps=CHUNK):
    return hear(_Fake(), _power(n_steps), torch.zeros(1, 2), chunk_steps=chunk_steps).starts


@given(st.integers(1, 500), st.integers(2, 64))
def test_chunks_cover_every_column_and_overlap(n_steps, chunk_steps):
    starts = _starts(n_steps, chunk_steps)
    assert starts[0] == 0
    if n_steps <= chunk_steps:
        assert len(starts) == 1
        return
    assert starts[-1] == n_steps - chunk_steps
    hops = starts.diff()
    assert (hops > 0).all()
    assert (hops <= max(1, round(chunk_steps * (1 - OVERLAP)))).all()


@given(st.integers(1, 200))
def test_equal_chunks_fade_into_themselves(n_steps):
    starts = _starts(n_steps)
    masks = torch.full((len(starts), 4, CHUNK), 0.3)
    torch.testing.assert_close(cross_fade(masks, starts, n_steps=n_steps), torch.full((4, n_steps), 0.3))


def test_a_seam_is_a_ramp_not_a_step():
    starts = _starts(28)
    masks = torch.arange(len(starts), dtype=torch.float32)[:, None, None].expand(-1, 4, CHUNK)
    faded = cross_fade(masks, starts, n_steps=28)
    assert faded.diff(dim=-1).abs().max() <= 0.25


@given(st.integers(1, 100), st.floats(1e-6, 1e6))
def test_level_does_not_matter(n_steps, gain):
    network = _Fake()
    quiet = propose(network, _power(n_steps), torch.tensor([[0.5, -1.0]]), chunk_steps=CHUNK)
    loud = propose(network, gain * _power(n_steps), torch.tensor([[0.5, -1.0]]), chunk_steps=CHUNK)
    torch.testing.assert_close(loud.mask, quiet.mask)
    assert abs(loud.presence - quiet.presence) < 1e-3


def test_the_network_always_sees_chunks_of_its_training_length():
    network = _Fake()
    for n_steps in (1, 5, 16, 17, 99):
        propose(network, _power(n_steps), torch.zeros(1, 2), chunk_steps=CHUNK)
    assert {power.shape[-1] for power in network.seen} == {CHUNK}


def _mask_of(*logits):
    query = torch.tensor([[logit, 0.0] for logit in logits])
    return propose(_Fake(), _power(40), query, chunk_steps=CHUNK).mask.mean().item()


def test_one_query_gives_its_own_mask():
    assert _mask_of(0.5) == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_a_negative_takes_away_what_it_claims():
    odds, against = math.exp(0.5), math.exp(2.0)
    assert _mask_of(0.5, 2.0) == pytest.approx(odds / (odds + against + OTHERS))
    assert _mask_of(0.5, 2.0) < _mask_of(0.5, 0.0) < _mask_of(0.5, -9.0)


def test_sounds_that_neither_query_names_stay_out():
    """With the difference of the logits alone this would be 0.5."""
    assert _mask_of(-8.0, -8.0) < 0.001


def test_silence_holds_nothing():
    proposal = propose(_Fake(), torch.zeros(4, 40), torch.tensor([[9.0, 9.0]]), chunk_steps=CHUNK)
    assert proposal.presence == -math.inf
    assert not proposal.mask.any()


def test_presence_is_that_of_the_best_chunk_that_can_be_heard():
    class Loudest(_Fake):
        def forward(self, power, query):
            made = super().forward(power, query)
            flat = power.amax((1, 2)) / power.mean((1, 2))  # chunk-level: how peaky
            return MaskOutput(made.logits, (flat - 10.0)[:, None])

    power = torch.ones(4, 64)
    power[:, 40] = 100.0  # a click in one chunk only
    assert propose(Loudest(), power, torch.zeros(1, 2), chunk_steps=CHUNK).presence > 0.0
    assert propose(Loudest(), torch.ones(4, 64), torch.zeros(1, 2), chunk_steps=CHUNK).presence < 0.0
    inaudible = torch.ones(4, 64)
    inaudible[:, 48:] = 1e-9
    inaudible[:, 60] = 1e-7
    assert propose(Loudest(), inaudible, torch.zeros(1, 2), chunk_steps=CHUNK).presence < 0.0
