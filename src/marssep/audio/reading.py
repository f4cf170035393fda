"""An open recording, read block by block from front to back, as often as wanted, to the last sample that is there."""

import hashlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile

from marssep.audio import mpeg, riff
from marssep.audio.containers import container_format, describe_track, track_blocks
from marssep.audio.views import View
from marssep.errors import InputError

_LOGGER = logging.getLogger(__name__)

# Small, because a block that ends in damage is lost.
_PIECE_FRAMES = 1 << 13
_WIDE = {"PCM_32", "DOUBLE"}
_SOUNDFILE_ERRORS = (soundfile.SoundFileError, TypeError, ValueError, OverflowError, AssertionError)


class AudioFile:
    """A recording in a file that stays open: what happens to its name meanwhile does not matter.

    Attributes:
        name: for messages.
        sample_rate: Hz.
        channels: of the recording.
        subtype: sample format as soundfile names it (`PCM_16`, `VORBIS`, ...), or the codec of a sound track.
        start: seconds after the beginning of the container's time line; 0 but for sound tracks.
        tags: title, artist and so on, by soundfile's names.
        frames_hint: samples per channel by the header, which may lie; 0 if it does not say.

    Args:
        source: a path, or an open file or buffer that the caller closes.
        name: what to call it in messages.

    Raises:
        InputError: if the file is missing, a folder, unreadable, empty or not audio.
    """

    def __init__(self, source: str | os.PathLike[str] | io.BufferedIOBase, *, name: str | None = None) -> None:
        self._owned = not isinstance(source, io.BufferedIOBase)
        self.name = name or ("recording" if isinstance(source, io.BufferedIOBase) else os.fspath(source))
        self._file = source if isinstance(source, io.BufferedIOBase) else _open(Path(source), self.name)
        self._warned = False
        self._container: str | None = None
        self.start = 0.0
        self.tags: dict[str, str] = {}
        self.frames_hint = 0
        try:
            self._examine()
        except BaseException:
            self.close()
            raise

    def blocks(self, frames: int, *, dtype: Literal["float32", "float64"] = "float32") -> Iterator[np.ndarray]:
        """All samples from the beginning, `[c, n]` with at most `frames` samples; damage ends the recording early.

        Raises:
            InputError: if nothing can be decoded, or a sample is NaN or infinite.
        """
        pieces = self._container_pieces() if self._container else self._pieces(dtype)
        position = 0
        for block in _regroup(pieces, frames):
            if not np.isfinite(block).all():
                where = position + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                raise InputError(
                    f"{self.name}: sample {where} is NaN or infinite; repair or export the recording again."
                )
            position += len(block)
            yield np.ascontiguousarray(block.T, dtype=dtype)

    @property
    def wide(self) -> bool:
        """Whether its samples have more bits than float32."""
        return self.subtype in _WIDE and self._container is None

    def sha256(self) -> str:
        """Of the file's bytes."""
        self._file.seek(0)
        digest = hashlib.sha256()
        while piece := self._file.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    def chunks(self) -> dict[bytes, bytes]:
        """Broadcast chunks of a WAV, for the results."""
        return {} if self._container else riff.kept_chunks(self._file)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _examine(self) -> None:
        self._file.seek(0)
        head = self._file.read(256)
        if not head:
            raise InputError(f"{self.name}: the file is empty (0 bytes); record or copy it again.")
        self._mended = riff.mend(self._file) or mpeg.mend(self._file)
        try:
            with self._sound() as file:
                self.sample_rate, self.channels, self.subtype = file.samplerate, file.channels, file.subtype
                self.frames_hint = max(0, file.frames) if file.frames < 1 << 62 else 0
                self.tags = file.copy_metadata()
        except _SOUNDFILE_ERRORS as error:
            self._container = container_format(head)
            if self._container is None:
                raise self._refusal(error) from None
            track = describe_track(self._file, format_name=self._container, name=self.name)
            self.sample_rate, self.channels, self.subtype = track.sample_rate, track.channels, track.subtype
            self.start, self.tags = track.start, track.tags

    def _sound(self) -> "_Stream":
        view = View(self._mended or self._file)
        view.seek(0)
        return _Stream(view)

    def _refusal(self, error: Exception) -> InputError:
        # TypeError: soundfile wants the layout of headerless files
        reason = (getattr(error, "error_string", None) or str(error)).strip().rstrip(".") or type(error).__name__
        if "channel" in reason.lower():
            return InputError(f"{self.name}: the file has 0 or too many channels ({reason}); export it again.")
        return InputError(f"{self.name}: not an audio file that can be read ({reason}); convert it to WAV or FLAC.")

    def _pieces(self, dtype: str) -> Iterator[np.ndarray]:
        try:
            with self._sound() as file:
                position = 0
                while True:
                    try:
                        piece = file.read(_PIECE_FRAMES, dtype=dtype, always_2d=True)
                    except _SOUNDFILE_ERRORS:
                        if position == 0:
                            raise
                        self._warn(position)
                        return
                    if not len(piece):
                        return
                    position += len(piece)
                    yield piece
        except _SOUNDFILE_ERRORS as error:
            raise self._refusal(error) from None

    def _container_pieces(self) -> Iterator[np.ndarray]:
        assert self._container is not None
        return track_blocks(self._file, format_name=self._container, name=self.name)

    def _warn(self, position: int) -> None:
        if not self._warned:
            self._warned = True
            seconds = position / self.sample_rate
            _LOGGER.warning("%s: damaged after %.2f s; only what comes before is used.", self.name, seconds)


class _Stream(soundfile.SoundFile):
    """A sound file read front to back: without seeks, FLAC of unknown length can be read too."""

    def seekable(self) -> bool:
        return False


def _open(path: Path, name: str) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; check the name and the folder.") from None
    except IsADirectoryError:
        raise InputError(f"{name}: this is a folder; name the audio files in it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); check its permissions.") from None


def _regroup(pieces: Iterator[np.ndarray], frames: int) -> Iterator[np.ndarray]:
    """Pieces `[n, c]` of any length as blocks of `frames`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        rest = piece
        while count + len(rest) >= frames:
            held.append(rest[: frames - count])
            yield held[0] if len(held) == 1 else np.concatenate(held)
            rest = rest[frames - count :]
            held, count = [], 0
        if len(rest):
            held.append(rest)
            count += len(rest)
    if held:
        yield np.concatenate(held)
