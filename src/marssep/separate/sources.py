"""Where the samples of a recording come from, as often as a pass over it needs them: a file or an array."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.audio import AudioFile
from marssep.errors import InputError

_PIECE_FRAMES = 1 << 16
LOWEST_RATE, HIGHEST_RATE = 1000, 1_536_000
"""Sample rates that can be worked with, in hertz."""


class Source(Protocol):
    """A recording that can be read from its beginning more than once."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def length_hint(self) -> int:
        """Samples per channel, as far as is known; 0 if nothing is."""

    def pieces(self) -> Iterator[Float[Tensor, "c _"]]:
        """All samples in order, float64 if they have more bits than float32."""


@dataclass(frozen=True)
class FileSource:
    """An open file."""

    file: AudioFile

    @property
    def name(self) -> str:
        """As the file is called."""
        return self.file.name

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.file.sample_rate

    @property
    def length_hint(self) -> int:
        """By the header."""
        return self.file.frames_hint

    def pieces(self) -> Iterator[Float[Tensor, "c _"]]:
        """Block by block from the disk."""
        for block in self.file.blocks(_PIECE_FRAMES, dtype="float64" if self.file.wide else "float32"):
            yield torch.from_numpy(block)


@dataclass(frozen=True)
class ArraySource:
    """A waveform in memory."""

    waveform: Float[Tensor, "c n"]
    sample_rate: int
    name: str = "waveform"

    @property
    def length_hint(self) -> int:
        """Exact."""
        return int(self.waveform.shape[-1])

    def pieces(self) -> Iterator[Float[Tensor, "c _"]]:
        """In one piece; nothing is copied."""
        yield self.waveform


def check_rate(sample_rate: int, *, name: str) -> None:
    """Refuse rates that only a broken header has.

    Raises:
        InputError: outside `LOWEST_RATE` to `HIGHEST_RATE`.
    """
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise InputError(
            f"{name}: a sample rate of {sample_rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz; check the "
            "header or resample first."
        )
