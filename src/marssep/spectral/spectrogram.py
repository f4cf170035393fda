"""STFT at a recording's own rate, and the rate-independent log-frequency grid the network sees.

The mask lives in hertz: rows of the grid are frequencies, not bins, so one network serves every sample rate and the
recording itself is never resampled. `from_grid` interpolates a mask linearly between the rows; `pool` sums powers with
the adjoint of that interpolation, so that inner products taken on the grid equal those taken on the bins.
"""

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from marssep.spectral.settings import SpectralSettings


class Spectrogram:
    """Everything between a waveform at any rate and a mask on the log-frequency grid.

    Letters: n sample, f STFT bin, t STFT frame, `bands` grid row, `steps` grid column.
    """

    def __init__(self, settings: SpectralSettings | None = None) -> None:
        self.settings = settings or SpectralSettings()

    def n_fft(self, sample_rate: int) -> int:
        """Window length in samples at `sample_rate` (Hz); see `SpectralSettings.window_length`."""
        return self.settings.window_length(sample_rate)

    def hop_length(self, sample_rate: int) -> int:
        """Samples between frames at `sample_rate` (Hz), at least 1."""
        return max(1, round(self.settings.hop_seconds * sample_rate))

    def n_frames(self, length: int, sample_rate: int) -> int:
        """STFT frames of a waveform of `length` samples."""
        return 1 + length // self.hop_length(sample_rate)

    def n_steps(self, n_frames: int) -> int:
        """Grid columns of `n_frames` STFT frames."""
        return -(-n_frames // self.settings.frames_per_step)

    def stft(self, waveform: Float[Tensor, "*b n"], sample_rate: int) -> Complex[Tensor, "*b f t"]:
        """Complex spectrogram, frames centred on multiples of the hop, edges padded with zeros."""
        n_fft = self.n_fft(sample_rate)
        lead = waveform.shape[:-1]
        spectrum = torch.stft(
            waveform.reshape(-1, waveform.shape[-1]),
            n_fft,
            self.hop_length(sample_rate),
            window=_window(n_fft, waveform.device),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.reshape(*lead, *spectrum.shape[-2:])

    def istft(self, spectrum: Complex[Tensor, "*b f t"], sample_rate: int, length: int) -> Float[Tensor, "*b n"]:
        """Waveform of exactly `length` samples; the exact inverse of `stft`."""
        n_fft, hop = self.n_fft(sample_rate), self.hop_length(sample_rate)
        lead = spectrum.shape[:-2]
        frames = spectrum.reshape(-1, *spectrum.shape[-2:]).transpose(1, 2)
        window = _window(n_fft, spectrum.device)
        made = _overlap_add(torch.fft.irfft(frames, n_fft) * window, hop)
        kept = slice(n_fft // 2, n_fft // 2 + length)
        weight = _window_sum(n_fft, hop, frames.shape[1], spectrum.device)
        return (made[:, kept] / weight[kept]).reshape(*lead, length)

    def band_frequencies(self) -> Float[Tensor, " bands"]:
        """Centre frequency of every grid row in hertz, from the lowest up."""
        return _band_frequencies(self.settings)

    def pool(self, values: Float[Tensor, "*b f t"], sample_rate: int) -> Float[Tensor, "*b bands steps"]:
        """Sum `values` (powers or cross-powers per bin) into grid cells.

        Every k-th frame is taken; rows are summed by the adjoint of `from_grid`'s interpolation.
        """
        seen = values[..., :: self.settings.frames_per_step]
        if values.device.type != "cpu":
            return self._interpolation(sample_rate, values.device).T @ seen
        # A bin belongs to two rows at most: adding it there is a tenth of the work of the product with the matrix.
        rows, shares = _two_rows(self.settings, sample_rate, self.n_fft(sample_rate))
        grid = seen.new_zeros(*seen.shape[:-2], self.settings.n_bands, seen.shape[-1])
        for row, share in zip(rows, shares.to(seen.dtype), strict=True):
            grid = grid.index_add_(-2, row, seen * share[:, None])
        return grid

    def to_grid(self, spectrum: Complex[Tensor, "*b f t"], sample_rate: int) -> Float[Tensor, "*b bands steps"]:
        """Mean power per grid cell, independent of rate and window; rows above the Nyquist frequency are zero."""
        seen = spectrum[..., :: self.settings.frames_per_step]
        power = seen.real.square() + seen.imag.square()
        return (self._interpolation(sample_rate, power.device).T @ power) * self.row_scale(sample_rate, power.device)

    def row_scale(self, sample_rate: int, device: torch.device | None = None) -> Float[Tensor, "bands 1"]:
        """Factor that turns `pool`'s sums into means over bins (0 for rows that no bin reaches)."""
        weight = self._interpolation(sample_rate, device or torch.device("cpu")).sum(0)
        # A Hann window of n samples has power 3n/8: dividing by it makes the level independent of rate and window.
        level = 8.0 / (3.0 * self.n_fft(sample_rate))
        return torch.where(weight > 1e-6, level / weight.clamp_min(1e-6), 0.0)[:, None]

    def row_bins(self, sample_rate: int, device: torch.device | None = None) -> Float[Tensor, "bands 1"]:
        """What turns means over bins back into sums: the inverse of `row_scale`, 0 for rows that no bin reaches."""
        scale = self.row_scale(sample_rate, device)
        return torch.where(scale > 0, 1.0 / scale.clamp_min(1e-12), 0.0)

    def from_grid(
        self, mask: Float[Tensor, "*b bands steps"], sample_rate: int, n_frames: int
    ) -> Float[Tensor, "*b f t"]:
        """A mask on the grid as a mask on the STFT's bins: linear between rows and between steps."""
        per_step = self.settings.frames_per_step
        wide = self.on_bins(mask, sample_rate).mT
        if per_step > 1:
            following = torch.cat([wide[..., 1:, :], wide[..., -1:, :]], dim=-2)  # the last step holds until the end
            shares = torch.arange(per_step, dtype=wide.dtype, device=wide.device)[:, None] / per_step
            wide = torch.lerp(wide[..., None, :], following[..., None, :], shares).flatten(-3, -2)
        return wide[..., :n_frames, :].mT

    def on_bins(self, mask: Float[Tensor, "*b bands steps"], sample_rate: int) -> Float[Tensor, "*b f steps"]:
        """A mask on the grid's columns and the STFT's bins: linear between rows."""
        # Bins side by side, as the spectrogram has them: a product of two layouts takes three times as long.
        return (mask.mT @ self._interpolation(sample_rate, mask.device).T).mT

    def masked(
        self, waveform: Float[Tensor, " n"], mask: Float[Tensor, "q bands steps"], sample_rate: int
    ) -> Float[Tensor, "q n"]:
        """A short waveform under each of several masks on the grid; long ones go block by block, see `separate`."""
        spectrum = self.stft(waveform, sample_rate)
        wide = self.from_grid(mask, sample_rate, spectrum.shape[-1])
        return self.istft(wide * spectrum, sample_rate, waveform.shape[-1])

    def _interpolation(self, sample_rate: int, device: torch.device) -> Float[Tensor, "f bands"]:
        return _interpolation(self.settings, sample_rate, self.n_fft(sample_rate), device)


def _overlap_add(frames: Float[Tensor, "b t n"], hop_length: int) -> Float[Tensor, "b _"]:
    """Sum of frames that begin a hop apart.

    Frames are cut into pieces of a hop, and all first pieces are added in one sweep, then all second ones, and so on:
    half the time of `torch.istft`, which adds frame by frame.
    """
    n_pieces = -(-frames.shape[-1] // hop_length)
    if missing := n_pieces * hop_length - frames.shape[-1]:
        frames = F.pad(frames, (0, missing))
    pieces = frames.unflatten(-1, (n_pieces, hop_length))
    summed = frames.new_zeros(frames.shape[0], frames.shape[1] + n_pieces - 1, hop_length)
    for number, piece in enumerate(pieces.unbind(2)):
        summed[:, number : number + frames.shape[1]] += piece
    return summed.flatten(1)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _window(n_fft: int, device: torch.device) -> Tensor:
    return torch.hann_window(n_fft, device=device)


@functools.lru_cache(maxsize=2)  # blocks have one length, but for the last
@torch.inference_mode(False)  # what is kept must be of use in training too
def _window_sum(n_fft: int, hop_length: int, n_frames: int, device: torch.device) -> Tensor:
    """What the squares of all windows add up to at every sample."""
    return _overlap_add(_window(n_fft, device).square().expand(1, n_frames, -1), hop_length)[0]


def _warp(frequency: Tensor, settings: SpectralSettings) -> Tensor:
    """Position of a frequency on the grid: 0 at 0 Hz, 1 at `max_frequency`, logarithmic above the corner."""
    corner = settings.corner_frequency
    return torch.log1p(frequency / corner) / torch.log1p(torch.tensor(settings.max_frequency / corner).double())


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _band_frequencies(settings: SpectralSettings) -> Tensor:
    position = torch.arange(settings.n_bands, dtype=torch.float64) / (settings.n_bands - 1)
    top = torch.log1p(torch.tensor(settings.max_frequency / settings.corner_frequency).double())
    return (settings.corner_frequency * torch.expm1(position * top)).float()


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _interpolation(settings: SpectralSettings, sample_rate: int, n_fft: int, device: torch.device) -> Tensor:
    frequency = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    row = (_warp(frequency, settings) * (settings.n_bands - 1)).clamp(max=settings.n_bands - 1)
    distance = (row[:, None] - torch.arange(settings.n_bands, dtype=torch.float64)).abs()
    return (1.0 - distance).clamp_min(0.0).float().to(device)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _two_rows(settings: SpectralSettings, sample_rate: int, n_fft: int) -> tuple[Tensor, Tensor]:
    """For every bin the rows it belongs to and with what share, both `[2, f]`."""
    kept = _interpolation(settings, sample_rate, n_fft, torch.device("cpu")).topk(min(2, settings.n_bands), dim=1)
    return kept.indices.T.contiguous(), kept.values.T.contiguous()
