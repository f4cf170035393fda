"""The spectrogram without torch against the one with it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.runtime import spectrogram as module
from marssep.runtime.spectrogram import PlainSpectrogram
from marssep.separate.blocks import apply_mask, grid_power
from marssep.spectral import SpectralSettings, Spectrogram

_SETTINGS = st.builds(
    SpectralSettings,
    window_seconds=st.sampled_from([0.064, 0.05]),
    hop_seconds=st.sampled_from([0.016, 0.0125]),
    frames_per_step=st.sampled_from([1, 2, 3]),
    n_bands=st.sampled_from([16, 128]),
)
_RATES = st.sampled_from([8000, 11025, 16000, 44100, 48000])


def _noise(channels, length, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, length))).astype(np.float32)


def _power(plain, waveform):
    return np.concatenate([plain.power(*each) for each in plain.walk([waveform])], axis=1)


def _masked(plain, waveform, mask):
    walked = plain.walk([waveform])
    made = [plain.masked(block, excerpt, mask[:, plain.columns(excerpt, block)]) for block, excerpt in walked]
    return np.concatenate(made, axis=1)


@given(settings=_SETTINGS, rate=_RATES, length=st.integers(1, 60000), channels=st.integers(1, 3))
def test_grid_and_masked_sound_are_those_of_torch(settings, rate, length, channels):
    waveform = _noise(channels, length)
    plain, reference = PlainSpectrogram(settings, rate), Spectrogram(settings)
    power = _power(plain, waveform)
    wanted = grid_power(torch.from_numpy(waveform), rate, reference).numpy()
    np.testing.assert_allclose(power, wanted, rtol=2e-3, atol=1e-6 * wanted.max())
    mask = np.random.default_rng(1).random(power.shape).astype(np.float32)
    made = _masked(plain, waveform, mask)
    wanted = apply_mask(torch.from_numpy(waveform), torch.from_numpy(mask), rate, reference).numpy()
    np.testing.assert_allclose(made, wanted, atol=2e-6)


@pytest.mark.parametrize("length", [160001, 320000, 340123])
def test_blocks_do_not_show(monkeypatch, length):
    waveform = _noise(2, length)
    mask = np.random.default_rng(1).random((32, 2000)).astype(np.float32)
    plain = PlainSpectrogram(SpectralSettings(n_bands=32), 16000)
    whole = _power(plain, waveform), _masked(plain, waveform, mask)
    monkeypatch.setattr(module, "BLOCK_SECONDS", 1.0)
    blocks = _power(plain, waveform), _masked(plain, waveform, mask)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(blocks[1], whole[1], atol=1e-6)


def test_a_mask_of_ones_gives_the_recording():
    waveform = _noise(2, 30000)
    plain = PlainSpectrogram(SpectralSettings(max_frequency=24000.0), 44100)
    made = _masked(plain, waveform, np.ones((128, 30000), np.float32))
    np.testing.assert_allclose(made, waveform, atol=1e-6)
