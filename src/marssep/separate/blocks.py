"""Spectrograms of long recordings in constant memory: blocks with context give the numbers of the whole.

A block's frames are those of the whole recording except where its own zero padding reaches in, which is half a window
from each end; its inverse is that of the whole where no such frame contributes, a full window from each end. Blocks
therefore carry a window of context, which is computed and thrown away:

    recording   |----------------------------------------------------|
    block            |context|====== kept ======|context|
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.spectral import Spectrogram

BLOCK_SECONDS = 20.0
"""Kept part of a block: 50 MB of spectrogram for stereo at 44.1 kHz."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a recording, aligned to grid columns.

    Attributes:
        start: first kept sample.
        stop: end of the kept samples.
        left: samples of context before `start`.
        right: samples of context after `stop`.
        first_step: grid column at which the block with its context begins.
    """

    start: int
    stop: int
    left: int
    right: int
    first_step: int


def grid_power(
    waveform: Float[Tensor, "c n"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    block_seconds: float = BLOCK_SECONDS,
) -> Float[Tensor, "bands steps"]:
    """Power on the grid, averaged over the channels so that opposite phases do not cancel."""
    step = _samples_per_step(spectral, sample_rate)
    total = spectral.n_steps(spectral.n_frames(waveform.shape[-1], sample_rate))
    parts = []
    for block in _blocks(waveform.shape[-1], sample_rate, spectral, block_seconds):
        spectrum = spectral.stft(_with_context(waveform, block), sample_rate)
        grid = spectral.to_grid(spectrum, sample_rate).mean(0)
        skip = block.left // step
        # The last block keeps the columns whose centre lies at or after the last sample.
        keep = total - block.start // step if block.right == 0 else (block.stop - block.start) // step
        parts.append(grid[:, skip : skip + keep])
    return torch.cat(parts, dim=-1)


def apply_mask(
    waveform: Float[Tensor, "c n"],
    mask: Float[Tensor, "bands steps"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    block_seconds: float = BLOCK_SECONDS,
    on_block: Callable[[float], None] | None = None,
) -> Float[Tensor, "c n"]:
    """Multiply every channel's spectrogram by a mask on the grid; exact length, each channel keeps its phase.

    Args:
        waveform: at its own rate.
        mask: in [0, 1], from the grid of the same recording.
        sample_rate: Hz.
        spectral: way between waveform and grid.
        block_seconds: memory against speed; the result does not depend on it.
        on_block: called with the share done, in (0, 1], after every block.
    """
    masked = torch.empty_like(waveform)
    for block in _blocks(waveform.shape[-1], sample_rate, spectral, block_seconds):
        excerpt = _with_context(waveform, block)
        spectrum = spectral.stft(excerpt, sample_rate)
        n_frames = spectrum.shape[-1]
        # One column more than the block has, for the interpolation between its last column and the next.
        columns = mask[:, block.first_step : block.first_step + spectral.n_steps(n_frames) + 1]
        spectrum *= spectral.from_grid(columns, sample_rate, n_frames)
        inverse = spectral.istft(spectrum, sample_rate, excerpt.shape[-1])
        masked[:, block.start : block.stop] = inverse[:, block.left : block.left + block.stop - block.start]
        if on_block is not None:
            on_block(block.stop / waveform.shape[-1])
    return masked


def _samples_per_step(spectral: Spectrogram, sample_rate: int) -> int:
    return spectral.hop_length(sample_rate) * spectral.settings.frames_per_step


def _blocks(length: int, sample_rate: int, spectral: Spectrogram, block_seconds: float) -> Iterator[Block]:
    step = _samples_per_step(spectral, sample_rate)
    context = -(-spectral.n_fft(sample_rate) // step) * step
    size = max(1, round(block_seconds * sample_rate / step)) * step
    for start in range(0, length, size):
        # A rest shorter than the context would be all padding, so it joins the block before it.
        if start > 0 and length - start < context:
            return
        stop = start + size if length - start - size >= context else length
        left = min(context, start)
        yield Block(start, stop, left, min(context, length - stop), (start - left) // step)


def _with_context(waveform: Tensor, block: Block) -> Tensor:
    return waveform[:, block.start - block.left : block.stop + block.right]
