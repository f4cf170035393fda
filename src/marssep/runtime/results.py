"""What the runtime gives back, and how it is written."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from marssep.audio import AudioFile, AudioWriter, make_folder, write_audio
from marssep.runtime.streaming import Stream

_OPEN = np.float32(1.0)


@dataclass(frozen=True, slots=True)
class RuntimeSeparation:
    """A sound that was asked for and the rest of the recording.

    Attributes:
        target: the sound, at the input's rate, channels and length.
        residual: everything else; target + residual is the input.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
        sample_rate: Hz.
    """

    target: Float32[np.ndarray, "c n"]
    residual: Float32[np.ndarray, "c n"]
    presence: float
    present: bool
    sample_rate: int

    def save(self, folder: str | os.PathLike[str], *, name: str) -> dict[str, Path]:
        """Write `NAME.target.wav` and `NAME.residual.wav` as 32-bit float.

        Args:
            folder: made if missing.
            name: beginning of the file names.

        Returns:
            `target` and `residual`, with their paths.

        Raises:
            OutputError: if the folder cannot be made or written to.
        """
        files = result_files(Path(folder), name)
        for part, path in files.items():
            write_audio(path, getattr(self, part), sample_rate=self.sample_rate)
        return files


@dataclass(frozen=True, slots=True)
class RuntimeFiles:
    """What was written for a recording.

    Attributes:
        files: `target` and `residual`, with their paths.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
    """

    files: dict[str, Path]
    presence: float
    present: bool


def result_files(folder: Path, name: str) -> dict[str, Path]:
    """Paths of `target` and `residual`; the folder is made if missing.

    Raises:
        OutputError: if it cannot be made.
    """
    make_folder(folder)
    return {part: folder / f"{name}.{part}.wav" for part in ("target", "residual")}


@contextlib.contextmanager
def write_results(
    stream: Stream, file: AudioFile, files: dict[str, Path], *, gain: np.float32 = _OPEN
) -> Iterator[Callable[[], None]]:
    """Render target, times `gain`, and residual; gives what publishes both, without which they are taken back."""
    with contextlib.ExitStack() as stack:
        shape = {"sample_rate": file.sample_rate, "channels": file.channels, "frames": stream.length}
        writers = [stack.enter_context(AudioWriter(path, **shape)) for path in files.values()]
        for target, recording in stream.render():
            made = gain * target
            for writer, part in zip(writers, (made, recording - made), strict=True):
                writer.write(part)

        def publish() -> None:
            for writer in writers:
                writer.finish()
            for writer in writers:
                writer.publish()

        yield publish
