"""Readings of a picture and what a mixture makes of them are those of torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.model import ModelConfig
from marssep.query import Readings as TorchReadings
from marssep.runtime.folder import ReadingSettings
from marssep.runtime.settling import Readings, weigh
from marssep.separate.settling import weigh as torch_weigh


def _places(rng, count):
    rows = rng.standard_normal((count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _both(rng, classes, kept):
    places, chances = _places(rng, classes), rng.dirichlet(np.full(classes, 0.3)).astype(np.float32)
    theirs = TorchReadings.of(torch.from_numpy(places), torch.from_numpy(chances), kept=kept)
    return Readings.of(places, chances, kept=kept), theirs


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 50))
def test_the_likeliest_readings(classes, kept, seed):
    ours, theirs = _both(np.random.default_rng(seed), classes, kept)
    for name in ("places", "chances", "embedding"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6)


@given(st.integers(1, 12), st.integers(0, 50), st.booleans())
def test_the_mixture_decides_alike(classes, seed, listening):
    rng = np.random.default_rng(seed)
    ours, theirs = _both(rng, classes, 8)
    logits, stretches = rng.normal(0, 4, len(ours.chances)).astype(np.float32), _places(rng, 3)
    config = ModelConfig(reading_match=4.0 if listening else 0.0)
    settings = ReadingSettings(kept=8, bias=config.reading_bias, network=config.reading_network, match=4.0)
    made = weigh(settings, ours, logits, stretches if listening else None)
    wanted = torch_weigh(
        config, theirs, torch.from_numpy(logits),
        torch.from_numpy(stretches) if listening else None,
    )  # fmt: skip
    np.testing.assert_allclose(made.embedding, wanted.embedding, atol=1e-5)
    assert made.presence == pytest.approx(wanted.presence, abs=1e-4)


def test_silence_decides_nothing():
    ours, _ = _both(np.random.default_rng(0), 4, 8)
    settings = ReadingSettings(kept=8, bias=-1.0, network=1.0, match=4.0)
    made = weigh(settings, ours, np.full(4, -math.inf, np.float32), None)
    assert made.presence == -math.inf
    np.testing.assert_array_equal(made.embedding, ours.embedding)
