"""Block by block gives the numbers of the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.separate.blocks import apply_mask, grid_power
from marssep.spectral import SpectralSettings, Spectrogram

SPECTRAL = Spectrogram(SpectralSettings(n_bands=32))


def _waveform(channels, length):
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(length))


@given(
    st.integers(1, 3),
    st.integers(1, 20000),
    st.sampled_from([8000, 11025, 44100]),
    st.floats(0.01, 1.0),
)
def test_blocks_equal_the_whole(channels, length, rate, seconds):
    waveform = _waveform(channels, length)
    spectrum = SPECTRAL.stft(waveform, rate)
    power = SPECTRAL.to_grid(spectrum, rate).mean(0)
    mask = torch.rand(power.shape, generator=torch.Generator().manual_seed(1))
    whole = SPECTRAL.istft(spectrum * SPECTRAL.from_grid(mask, rate, spectrum.shape[-1]), rate, length)
    torch.testing.assert_close(grid_power(waveform, rate, SPECTRAL, block_seconds=seconds), power, atol=1e-5, rtol=1e-4)
    blocks = apply_mask(waveform, mask, rate, SPECTRAL, block_seconds=seconds)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rate", [8000, 44100, 192000])
@pytest.mark.parametrize("length", [1, 2, 100, 30011])
def test_a_mask_of_ones_gives_the_input(rate, length):
    waveform = _waveform(2, length)
    steps = SPECTRAL.n_steps(SPECTRAL.n_frames(length, rate))
    made = apply_mask(waveform, torch.ones(32, steps), rate, SPECTRAL, block_seconds=0.1)
    torch.testing.assert_close(made, waveform, atol=1e-5, rtol=1e-5)


def test_opposite_phases_do_not_cancel_in_the_power():
    mono = _waveform(1, 8000)
    power = grid_power(torch.cat([mono, -mono]), 8000, SPECTRAL)
    torch.testing.assert_close(power, grid_power(mono, 8000, SPECTRAL))


def test_progress_is_told_and_ends_at_one():
    shares = []
    waveform = _waveform(1, 16000)
    mask = torch.ones(32, SPECTRAL.n_steps(SPECTRAL.n_frames(16000, 8000)))
    apply_mask(waveform, mask, 8000, SPECTRAL, block_seconds=0.5, on_block=shares.append)
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
