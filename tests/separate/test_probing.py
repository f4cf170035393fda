"""Where a sound is: stretches, resemblance, and that probing says what separating says."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep import Query, Separator
from marssep.query import load_encoder
from marssep.separate.probing import Probe, SecondEmbeddings, Stretch, probe
from marssep.separate.sources import ArraySource

RATE = 8000


def _probe(*confidence, duration=None):
    return Probe({}, 0.5, True, 0.5, confidence, (None,) * len(confidence), duration or float(len(confidence)))


def test_likely_seconds_join_to_stretches():
    assert _probe(0.1, 0.6, 0.9, 0.4, 0.5, duration=4.5).where == (Stretch(1.0, 3.0, 0.9), Stretch(4.0, 4.5, 0.5))
    assert _probe(0.1, 0.4).where == ()
    assert _probe(0.1, 0.4).surest == Stretch(1.0, 2.0, 0.4)
    assert _probe(0.9, 0.8).where == (Stretch(0.0, 2.0, 0.9),)


@given(st.integers(1, 40000), st.integers(100, 20000))
def test_the_encoder_hears_each_second_with_half_a_second_around_it(length, size):
    encoder = load_encoder("tiny")
    waveform = torch.from_numpy(np.random.default_rng(0).standard_normal((2, length)).astype(np.float32))
    heard = SecondEmbeddings(encoder, RATE)
    for piece in waveform.split(size, dim=-1):
        heard.push(piece)
    made = heard.finish()
    assert len(made) == -(-length // RATE)
    mono = waveform.mean(0)
    for second, embedding in enumerate(made):
        excerpt = mono[max(0, second * RATE - RATE // 2) : (second + 1) * RATE + RATE // 2]
        torch.testing.assert_close(embedding, encoder.embed_audio(excerpt[None], sample_rate=RATE)[0])


@pytest.mark.parametrize("presence_match", [0.0, 1.0])
def test_probing_says_what_separating_says(tiny_model, presence_match):
    loaded = Separator.load(tiny_model)
    config = loaded.model.config.model_copy(update={"presence_match": presence_match, "second_share": 0.1})
    separator = Separator(dataclasses.replace(loaded.model, config=config), loaded.encoder)
    waveform = (0.1 * np.random.default_rng(0).standard_normal((2, 5 * RATE))).astype(np.float32)
    waveform[:, 2 * RATE : 4 * RATE + RATE // 2] = 0
    queries = [Query(text="dog"), Query(like=(0.0, 1.0))]
    source = ArraySource(torch.from_numpy(waveform), RATE)
    for found, result in zip(
        probe(separator, source, queries), separator.separate_queries((waveform, RATE), queries), strict=True
    ):
        assert found.presence == result.presence
        assert found.present == result.present
        np.testing.assert_allclose(found.confidence, result.confidence, rtol=1e-6)
        assert found.similarity[3] is None
        assert all(-1.0 <= each <= 1.0 for each in found.similarity if each is not None)
        assert found.duration == 5.0
    assert found.similarity[0] > 0.9  # asked by its own sound
