"""Targets and what is left of the recording, written side by side so that they add up to it exactly.

Integer files: a target is rounded to the file's steps before the residual is taken, and the difference of two numbers
on these steps is on them too. Float files: if the input lies on the steps of 24 bits, so do they. Otherwise the sum is
right to the last bit of the larger of the two, which is all that two floating-point numbers can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from marssep.audio import AudioWriter, Extras, to_steps

# Formats with fewer bits than 16 are widened, lossy ones decode to real numbers; all are soundfile's names.
_WIDENED = {"PCM_S8": "PCM_16", "PCM_U8": "PCM_16", "ULAW": "PCM_16", "ALAW": "PCM_16"}
_KEPT = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}
_GRID = np.float32(1 << 23)


def natural_subtype(subtype: str) -> str:
    """The sample format of results for an input's, as long as no peak passes full scale."""
    widened = _WIDENED.get(subtype, subtype)
    return widened if widened in _KEPT else "FLOAT"


def unlimited_subtype(subtype: str) -> str:
    """The sample format of results once a peak passes full scale: real numbers, with enough bits for the input's."""
    return "DOUBLE" if natural_subtype(subtype) in {"PCM_32", "DOUBLE"} else "FLOAT"


@dataclass(frozen=True, slots=True)
class Layout:
    """What the files of a recording have in common, whatever their sample format.

    Attributes:
        sample_rate: Hz.
        channels: of all.
        frames: samples per channel that will come.
        on_grid: whether the input lies on the steps of 24 bits.
        extras: tags and chunks of every file.
    """

    sample_rate: int
    channels: int
    frames: int
    on_grid: bool = False
    extras: Extras = field(default_factory=Extras)


class Bundle:
    """Files of some targets and of what they leave.

    Attributes:
        paths: of the targets and, last, of what they leave.
        subtype: sample format of all.

    Args:
        targets: files of the targets.
        residual: file of the rest.
        layout: what they have in common.
        subtype: sample format, `natural_subtype` or `unlimited_subtype` of the input's.
    """

    def __init__(self, targets: Sequence[Path], residual: Path, *, layout: Layout, subtype: str) -> None:
        self.paths = (*targets, residual)
        self.subtype = subtype
        self._on_grid = layout.on_grid and subtype == "FLOAT"
        self._writers: list[AudioWriter] = []
        try:
            for path in self.paths:
                self._writers.append(
                    AudioWriter(
                        path,
                        sample_rate=layout.sample_rate,
                        channels=layout.channels,
                        subtype=subtype,
                        frames=layout.frames,
                        extras=layout.extras,
                    )
                )
        except BaseException:
            self.discard()
            raise

    @property
    def clipped(self) -> bool:
        """Whether a sample did not fit."""
        return any(writer.clipped for writer in self._writers)

    def write(self, targets: Sequence[np.ndarray], mixture: np.ndarray) -> None:
        """Add samples `[c, n]` of every target and of the mixture, which may have more bits.

        Raises:
            OutputError: if there is no room.
        """
        *writers, last = self._writers
        if last.bits is not None:
            left = to_steps(mixture, bits=last.bits)
            for writer, target in zip(writers, targets, strict=True):
                steps = to_steps(target, bits=last.bits)
                writer.write_steps(steps)
                left -= steps
            last.write_steps(left)
            return
        rest = mixture
        for writer, target in zip(writers, targets, strict=True):
            rounded = np.rint(target * _GRID) / _GRID if self._on_grid else target
            writer.write(rounded)
            rest = rest - rounded
        last.write(rest)

    def finish(self) -> None:
        """Complete all files under their temporary names."""
        for writer in self._writers:
            writer.finish()

    def publish(self) -> None:
        """Give all files their names."""
        for writer in self._writers:
            writer.publish()

    def discard(self) -> None:
        """Take back what was not published."""
        for writer in self._writers:
            writer.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
