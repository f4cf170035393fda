"""`marssep.spectral.Spectrogram` in numpy and scipy, in blocks of constant memory.

A second implementation on purpose: it must not import torch, and the tests hold the two against each other.
"""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Complex64, Float32
from scipy import fft

from marssep.spectral.adaptation import Adaptation
from marssep.spectral.settings import SpectralSettings
from marssep.spectral.walking import Block, walk

BLOCK_SECONDS = 10.0
"""Kept part of a block: 25 MB of spectrogram for stereo at 44.1 kHz."""


class PlainSpectrogram:
    """Grid of a recording, and a mask on the grid applied to it.

    Letters: c channel, n sample, f STFT bin, t STFT frame.

    Args:
        settings: of the model.
        sample_rate: of the recording, Hz.
    """

    def __init__(self, settings: SpectralSettings, sample_rate: int) -> None:
        self.settings = settings
        self.n_fft = settings.window_length(sample_rate)
        self.hop_length = max(1, round(settings.hop_seconds * sample_rate))
        self.step = self.hop_length * settings.frames_per_step
        self.sample_rate = sample_rate
        self.window = _hann(self.n_fft)
        self.interpolation = _interpolation(settings, sample_rate, self.n_fft)

    def walk(self, pieces: Iterable[Float32[np.ndarray, "c _"]]) -> Iterator[tuple[Block, Float32[np.ndarray, "c n"]]]:
        """A recording that comes in pieces of any length as blocks with their context."""
        return walk(
            pieces,
            step=self.step,
            window=self.n_fft,
            kept=lambda _: BLOCK_SECONDS * self.sample_rate,
            join=lambda parts: np.concatenate(parts, axis=1),
        )

    def power(self, block: Block, excerpt: Float32[np.ndarray, "c n"]) -> Float32[np.ndarray, "bands steps"]:
        """Mean power per grid cell in the columns that belong to a block, averaged over the channels."""
        weight = self.interpolation.sum(0)
        level = 8.0 / (3.0 * self.n_fft)  # a Hann window of n samples has power 3n/8
        scale = np.where(weight > 1e-6, level / np.maximum(weight, 1e-6), 0.0).astype(np.float32)[:, None]
        spectrum = self.seen(block, excerpt)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).mean(0)
        made: np.ndarray = (self.interpolation.T @ power.T) * scale
        return made

    def seen(self, block: Block, excerpt: Float32[np.ndarray, "c n"]) -> Complex64[np.ndarray, "c steps f"]:
        """Spectra in the columns that belong to a block."""
        # Only the frames that the network sees are transformed: every k-th. The last block keeps those up to the end.
        last = block.left + block.stop - block.start if block.right else self._n_steps(excerpt) * self.step
        return self._frames(excerpt, range(block.left, last, self.step))

    def on_bins(self, mask: Float32[np.ndarray, "bands steps"]) -> Float32[np.ndarray, "f steps"]:
        """A mask on the grid's columns and the bins, linear between rows."""
        return self.interpolation @ mask

    def columns(self, excerpt: Float32[np.ndarray, "c n"], block: Block) -> slice:
        """The grid columns that a block's mask is interpolated from."""
        # One column more than the block has, for the interpolation between its last column and the next.
        return slice(block.first_step, block.first_step + self._n_steps(excerpt) + 1)

    def masked(
        self,
        block: Block,
        excerpt: Float32[np.ndarray, "c n"],
        mask: Float32[np.ndarray, "bands steps"],
        adaptation: Adaptation | None = None,
    ) -> Float32[np.ndarray, "c _"]:
        """Kept samples of a block under its `columns` of a mask, as it is or adapted to the recording."""
        length = excerpt.shape[-1]
        n_frames = 1 + length // self.hop_length
        spectrum = self._frames(excerpt, range(0, n_frames * self.hop_length, self.hop_length))
        wide = self._bins(mask, n_frames)
        if adaptation is None:
            spectrum *= wide
        else:
            first_frame = block.first_step * self.settings.frames_per_step
            spectrum = adaptation.apply(spectrum.swapaxes(1, 2), wide.T, first_frame=first_frame).swapaxes(1, 2)
        return self._inverse(spectrum, length)[:, block.kept]

    def _n_steps(self, excerpt: Float32[np.ndarray, "c n"]) -> int:
        """Grid columns of an excerpt by itself."""
        return -(-(1 + excerpt.shape[-1] // self.hop_length) // self.settings.frames_per_step)

    def _frames(self, waveform: Float32[np.ndarray, "c n"], centres: range) -> Complex64[np.ndarray, "c t f"]:
        """Spectra of frames around these samples; beyond both ends there is silence."""
        half = self.n_fft // 2
        begin, end = centres.start - half, centres[-1] + half
        inside = waveform[:, max(0, begin) : max(0, end)]
        missing = end - begin - inside.shape[1] - max(0, -begin)
        padded = np.pad(inside, ((0, 0), (max(0, -begin), max(0, missing))))
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)[:, :: centres.step]
        return fft.rfft(framed * self.window, axis=-1)

    def _bins(self, mask: Float32[np.ndarray, "bands steps"], n_frames: int) -> Float32[np.ndarray, "t f"]:
        """The mask on frames and bins, linear between grid columns and rows."""
        per_step = self.settings.frames_per_step
        at = np.arange(n_frames) / per_step
        before = np.minimum(at.astype(np.int64), mask.shape[1] - 1)
        after = np.minimum(before + 1, mask.shape[1] - 1)  # the last column holds until the end
        share = (at - np.floor(at)).astype(np.float32)[:, None]
        rows = mask.T[before] * (1 - share) + mask.T[after] * share
        return rows @ self.interpolation.T

    def _inverse(self, spectrum: Complex64[np.ndarray, "c t f"], length: int) -> Float32[np.ndarray, "c n"]:
        """Weighted overlap-add."""
        frames = fft.irfft(spectrum, n=self.n_fft, axis=-1)
        frames *= self.window
        n_frames, half = frames.shape[1], self.n_fft // 2
        made = self._overlap_add(frames)
        weight = self._overlap_add(np.broadcast_to(np.square(self.window), (1, n_frames, self.n_fft)))
        kept = slice(half, half + length)
        return made[:, kept] / np.maximum(weight[:, kept], 1e-11)

    def _overlap_add(self, frames: Float32[np.ndarray, "c t w"]) -> Float32[np.ndarray, "c n"]:
        """Sum of frames a hop apart: every k-th frame fills one long row without touching its neighbour."""
        channels, n_frames, width = frames.shape
        apart = -(-width // self.hop_length)
        period = apart * self.hop_length
        made = np.zeros((channels, (n_frames + apart) * self.hop_length + period), dtype=np.float32)
        for first in range(min(apart, n_frames)):
            chosen = frames[:, first::apart]
            begin = first * self.hop_length
            row = made[:, begin : begin + chosen.shape[1] * period].reshape(channels, -1, period)
            row[..., :width] += chosen
        return made


@functools.lru_cache(maxsize=16)
def _hann(n_fft: int) -> Float32[np.ndarray, " w"]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _interpolation(settings: SpectralSettings, sample_rate: int, n_fft: int) -> Float32[np.ndarray, "f bands"]:
    """Weights of the grid's rows in every bin: linear on the axis where the rows are evenly spaced."""
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    corner = settings.corner_frequency
    position = np.log1p(frequency / corner) / np.log1p(settings.max_frequency / corner)
    row = np.minimum(position * (settings.n_bands - 1), settings.n_bands - 1)
    distance = np.abs(row[:, None] - np.arange(settings.n_bands))
    return np.maximum(1.0 - distance, 0.0).astype(np.float32)
