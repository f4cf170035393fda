"""Spectrograms of long recordings in constant memory: blocks with context give the numbers of the whole.

How blocks lie is said by `marssep.spectral.walking`.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from marssep.spectral import Spectrogram, walking
from marssep.spectral.walking import Block

BLOCK_SAMPLES = 1 << 18
"""Kept samples of a block, all channels together: about 40 MB of working memory, and 2.7 s of stereo at 48 kHz."""


def walk(
    pieces: Iterable[Float[Tensor, "c _"]],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    block_seconds: float | None = None,
) -> Iterator[tuple[Block, Float[Tensor, "c n"]]]:
    """Cut a recording that comes in pieces of any length into blocks with their context.

    Args:
        pieces: the samples in order.
        sample_rate: Hz.
        spectral: its windows are the context, its columns the grid that blocks begin on.
        block_seconds: kept part of a block; memory against speed. By default `BLOCK_SAMPLES` shared by the channels.
    """
    return walking.walk(
        pieces,
        step=samples_per_step(spectral, sample_rate),
        window=spectral.n_fft(sample_rate),
        kept=lambda channels: BLOCK_SAMPLES / channels if block_seconds is None else block_seconds * sample_rate,
        join=lambda parts: torch.cat(list(parts), dim=-1),
    )


def grid_power(
    waveform: Float[Tensor, "c n"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    block_seconds: float | None = None,
) -> Float[Tensor, "bands steps"]:
    """Power on the grid, averaged over the channels so that opposite phases do not cancel."""
    walked = walk([waveform], sample_rate, spectral, block_seconds=block_seconds)
    return torch.cat([block_power(*each, sample_rate, spectral) for each in walked], dim=-1)


def block_power(
    block: Block, excerpt: Float[Tensor, "c n"], sample_rate: int, spectral: Spectrogram
) -> Float[Tensor, "bands steps"]:
    """The columns of `grid_power` that belong to a block."""
    grid = spectral.to_grid(spectral.stft(excerpt, sample_rate), sample_rate).mean(0)
    return grid[:, kept_columns(block, grid.shape[-1], sample_rate, spectral)]


def kept_columns(block: Block, n_columns: int, sample_rate: int, spectral: Spectrogram) -> slice:
    """Of the `n_columns` that a block with its context has, those that belong to the block."""
    step = samples_per_step(spectral, sample_rate)
    skip = block.left // step
    # The last block keeps the columns whose centre lies at or after the last sample.
    return slice(skip, n_columns if block.right == 0 else skip + (block.stop - block.start) // step)


def apply_mask(
    waveform: Float[Tensor, "c n"],
    mask: Float[Tensor, "bands steps"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    block_seconds: float | None = None,
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
    for block, excerpt in walk([waveform], sample_rate, spectral, block_seconds=block_seconds):
        spectrum = spectral.stft(excerpt, sample_rate)
        columns = mask[:, block_columns(block, spectrum.shape[-1], spectral)]
        masked[:, block.start : block.stop] = masked_block(
            spectrum, columns, sample_rate, spectral, length=excerpt.shape[-1]
        )[:, block.kept]
        if on_block is not None:
            on_block(block.stop / waveform.shape[-1])
    return masked


def block_columns(block: Block, n_frames: int, spectral: Spectrogram) -> slice:
    """The grid columns that a block's mask is interpolated from."""
    # One column more than the block has, for the interpolation between its last column and the next.
    return slice(block.first_step, block.first_step + spectral.n_steps(n_frames) + 1)


def masked_block(
    spectrum: Complex[Tensor, "c f t"],
    columns: Float[Tensor, "bands steps"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    length: int,
) -> Float[Tensor, "c n"]:
    """Waveform of a block's spectrogram under a mask on the grid, the same for all channels."""
    masked = spectrum * spectral.from_grid(columns, sample_rate, spectrum.shape[-1])
    return spectral.istft(masked, sample_rate, length)


def samples_per_step(spectral: Spectrogram, sample_rate: int) -> int:
    """Samples between two columns of the grid."""
    return spectral.hop_length(sample_rate) * spectral.settings.frames_per_step
