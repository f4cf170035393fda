"""The audio encoder's front end without torch against the one with it."""

import math

import numpy as np
import pytest
import torch

from marssep.query.trunks import AudioTrunk
from marssep.query.trunks.audio import pool_patches
from marssep.runtime.encoders import AudioEncoder


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return AudioTrunk().requires_grad_(False)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.001, 0.5, 3.3])
def test_patches_are_those_of_torch(trunk, rate, seconds):
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(math.ceil(seconds * rate))).astype(np.float32)
    made = AudioEncoder(lambda _: [], lambda _: []).patches(waveform, rate)
    wanted = trunk.patches(torch.from_numpy(waveform)[None], rate)[0].numpy()
    np.testing.assert_allclose(made, wanted, atol=2e-3)


def test_patches_are_pooled_as_in_torch_in_any_number_of_runs(trunk):
    """The graph stands in as a random map, so that only pooling and batches are looked at."""
    rng = np.random.default_rng(1)
    waveform = (rng.standard_normal(16000 * 40) * np.linspace(0, 0.2, 16000 * 40)).astype(np.float32)
    matrix = rng.standard_normal((96 * 64, 1024)).astype(np.float32) / 1000
    calls = []

    def graph(inputs):
        calls.append(len(inputs["patches"]))
        return [inputs["patches"].reshape(-1, 96 * 64) @ matrix]

    made = AudioEncoder(graph, lambda inputs: [inputs["features"]]).embed(waveform, 16000)
    patches = trunk.patches(torch.from_numpy(waveform)[None], 16000)
    embeddings = patches.flatten(2) @ torch.from_numpy(matrix)
    np.testing.assert_allclose(made, pool_patches(embeddings, patches)[0].numpy(), atol=1e-4)
    assert len(calls) > 1
    assert max(calls) <= 64
