"""STFT, inverse and the log-frequency grid."""

import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.spectral import SpectralSettings, Spectrogram

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000)


@given(st.integers(1, 20000), st.sampled_from(RATES), st.integers(0, 2**31 - 1))
def test_inverse_is_exact_for_any_length(length: int, rate: int, seed: int) -> None:
    waveform = torch.randn(2, length, generator=torch.Generator().manual_seed(seed))
    spectrogram = Spectrogram()
    spectrum = spectrogram.stft(waveform, rate)
    assert spectrum.shape[-1] == spectrogram.n_frames(length, rate)
    torch.testing.assert_close(spectrogram.istft(spectrum, rate, length), waveform, atol=1e-5, rtol=0)


@given(st.integers(1, 3000), st.sampled_from((8000, 32000, 44100)), st.integers(1, 4))
def test_mask_of_ones_changes_nothing(length: int, rate: int, per_step: int) -> None:
    spectrogram = Spectrogram(SpectralSettings(frames_per_step=per_step))
    n_frames = spectrogram.n_frames(length, rate)
    mask = spectrogram.from_grid(torch.ones(1, 128, spectrogram.n_steps(n_frames)), rate, n_frames)
    assert mask.shape == (1, spectrogram.n_fft(rate) // 2 + 1, n_frames)
    torch.testing.assert_close(mask, torch.ones_like(mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", RATES)
def test_pool_is_the_adjoint_of_from_grid(rate: int) -> None:
    spectrogram = Spectrogram(SpectralSettings(frames_per_step=1))
    generator = torch.Generator().manual_seed(rate)
    values = torch.rand(spectrogram.n_fft(rate) // 2 + 1, 7, generator=generator)
    mask = torch.rand(128, 7, generator=generator)
    on_bins = (spectrogram.from_grid(mask, rate, 7) * values).sum()
    on_grid = (mask * spectrogram.pool(values, rate)).sum()
    torch.testing.assert_close(on_grid, on_bins, rtol=1e-4, atol=0)


@pytest.mark.parametrize("rate", RATES)
def test_level_on_the_grid_does_not_depend_on_the_rate(rate: int) -> None:
    noise = torch.randn(rate * 2, generator=torch.Generator().manual_seed(0))
    spectrogram = Spectrogram()
    grid = spectrogram.to_grid(spectrogram.stft(noise, rate), rate)
    below = spectrogram.band_frequencies() < 0.9 * min(rate / 2, 16000)
    assert abs(float(grid[below, 4:-4].mean()) - 1.0) < 0.05


@pytest.mark.parametrize("frequency", [110.0, 997.0, 3500.0])
def test_a_tone_lands_on_the_row_of_its_frequency_at_every_rate(frequency: float) -> None:
    spectrogram = Spectrogram()
    rows = set()
    for rate in RATES:
        time = torch.arange(rate) / rate
        grid = spectrogram.to_grid(spectrogram.stft(torch.sin(2 * torch.pi * frequency * time), rate), rate)
        rows.add(int(grid[:, 4:-4].mean(-1).argmax()))
    nearest = int((spectrogram.band_frequencies() - frequency).abs().argmin())
    assert all(abs(row - nearest) <= 1 for row in rows)


def test_rows_above_nyquist_are_empty() -> None:
    spectrogram = Spectrogram()
    grid = spectrogram.to_grid(spectrogram.stft(torch.randn(8000), 8000), 8000)
    assert float(grid[spectrogram.band_frequencies() > 4300].max()) == 0.0


def test_use_without_gradients_does_not_spoil_later_training() -> None:
    spectrogram = Spectrogram(SpectralSettings(n_bands=48, max_frequency=3000.0))  # settings that no other test has
    waveform = torch.randn(6000, generator=torch.Generator().manual_seed(0))

    def there_and_back(waveform: torch.Tensor) -> torch.Tensor:
        spectrum = spectrogram.stft(waveform, 6000)
        mask = spectrogram.from_grid(spectrogram.to_grid(spectrum, 6000), 6000, spectrum.shape[-1])
        return spectrogram.istft(mask * spectrum, 6000, len(waveform))

    with torch.inference_mode():
        there_and_back(waveform)
    learnt = waveform.clone().requires_grad_()
    there_and_back(learnt).square().sum().backward()
    assert learnt.grad is not None
    assert learnt.grad.any()


def test_masks_of_ones_and_zeros_keep_all_and_nothing():
    spectrogram, waveform = Spectrogram(), torch.randn(9000, generator=torch.Generator().manual_seed(2))
    steps = spectrogram.n_steps(spectrogram.n_frames(9000, 16000))
    masks = torch.stack([torch.ones(128, steps), torch.zeros(128, steps)])
    kept, dropped = spectrogram.masked(waveform, masks, 16000)
    torch.testing.assert_close(kept, waveform, atol=1e-5, rtol=1e-5)
    assert not dropped.any()


@given(st.integers(1000, 1_536_000))
def test_windows_are_quick_to_transform_and_as_long_as_asked(rate: int) -> None:
    settings = SpectralSettings()
    length = settings.window_length(rate)
    assert length >= 8
    assert length % 2 == 0
    assert scipy.fft.next_fast_len(length) == length  # products of primes up to 11
    assert abs(length - settings.window_seconds * rate) <= max(1, 0.06 * length)


def test_windows_at_common_rates() -> None:
    lengths = {8000: 512, 16000: 1024, 22050: 1408, 32000: 2048, 44100: 2816, 48000: 3072, 96000: 6144, 192000: 12288}
    assert {rate: Spectrogram().n_fft(rate) for rate in lengths} == lengths
