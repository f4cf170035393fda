"""Reading recordings: any format, rate and channel count that libsndfile knows, to the last sample that is there."""

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from marssep.errors import InputError

_LOGGER = logging.getLogger(__name__)

# Small, because a block that ends in damage is lost; the first capacity bounds what a boastful header costs.
_BLOCK_FRAMES = 1 << 13
_FIRST_CAPACITY = 1 << 24


class _Stream(soundfile.SoundFile):
    """A sound file read front to back: without seeks, FLAC of unknown length can be read too."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Audio:
    """A decoded recording.

    Attributes:
        waveform: float32 samples, full scale is 1; the last axis is time.
        sample_rate: Hz.
        subtype: sample format of the file it came from, as soundfile names it (`PCM_16`, `VORBIS`, ...).
    """

    waveform: Float32[np.ndarray, "c n"]
    sample_rate: int
    subtype: str = "FLOAT"


def read_audio(path: str | os.PathLike[str]) -> Audio:
    """Read a recording from a file.

    The header's length is only a hint: samples are read until there are no more, so recordings that were cut off or
    never closed properly still give everything they hold.

    Raises:
        InputError: if the file is missing, a folder, unreadable, not audio, empty, or holds NaN or infinite samples.
    """
    path = Path(path)
    try:
        with path.open("rb") as probe:
            empty = not probe.read(1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name and the folder.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; name the audio files in it.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from None
    if empty:
        raise InputError(f"{path}: the file is empty (0 bytes); record or copy it again.")
    return _decode(path, str(path))


def decode_audio(data: bytes, *, name: str) -> Audio:
    """Decode a recording held in memory, such as a member of a shard.

    Args:
        data: the bytes of an audio file.
        name: what to call it in error messages.

    Raises:
        InputError: as `read_audio`.
    """
    if not data:
        raise InputError(f"{name}: the file is empty (0 bytes); record or copy it again.")
    return _decode(io.BytesIO(data), name)


def check_waveform(waveform: np.ndarray, *, name: str) -> Float32[np.ndarray, "c n"]:
    """Return `waveform` as float32 `[c, n]` if it can be worked with.

    Args:
        waveform: `[n]` or `[c, n]`; integers are taken as fixed-point samples of their width.
        name: what to call it in error messages.

    Raises:
        InputError: if it has no channels, no samples, more than two axes, or NaN or infinite samples.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim not in (1, 2):
        raise InputError(f"{name}: a waveform has shape [n] or [channels, n], this one {list(waveform.shape)}.")
    waveform = np.atleast_2d(waveform)
    if waveform.shape[0] == 0:
        raise InputError(f"{name}: the waveform has 0 channels; give at least one.")
    if waveform.shape[1] == 0:
        raise InputError(f"{name}: the recording is empty (0 samples); there is nothing to separate.")
    if np.issubdtype(waveform.dtype, np.signedinteger):
        waveform = waveform.astype(np.float32) / -float(np.iinfo(waveform.dtype).min)
    elif not np.issubdtype(waveform.dtype, np.floating):
        raise InputError(f"{name}: samples must be real numbers, not {waveform.dtype}.")
    waveform = waveform.astype(np.float32, copy=False)
    if not np.isfinite(waveform).all():
        where = int(np.flatnonzero(~np.isfinite(waveform).all(axis=0))[0])
        raise InputError(f"{name}: sample {where} is NaN or infinite; repair or export the recording again.")
    return waveform


def _decode(source: Path | io.BytesIO, name: str) -> Audio:
    try:
        with _Stream(source) as file:
            waveform = _read_to_end(file, name)
            if waveform.shape[1] == 0 and (mended := _close_wav(source)) is not None:
                return _decode(mended, name)
            return Audio(check_waveform(waveform, name=name), file.samplerate, file.subtype)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile wants the layout of headerless files
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        if "channel" in reason.lower():
            raise InputError(f"{name}: the file has 0 or too many channels ({reason}); export it again.") from None
        raise InputError(f"{name}: not an audio file that can be read ({reason}); convert it to WAV or FLAC.") from None


def _read_to_end(file: soundfile.SoundFile, name: str) -> np.ndarray:
    # Frames go straight into a channel-first buffer: one copy in memory, whatever the header says about the length.
    block = np.empty((_BLOCK_FRAMES, file.channels), dtype=np.float32)
    buffer = np.empty((file.channels, max(1, min(file.frames, _FIRST_CAPACITY))), dtype=np.float32)
    length = 0
    while len(frames := _next_block(file, block, name, length)):
        if length + len(frames) > buffer.shape[1]:
            grown = np.empty((file.channels, 2 * buffer.shape[1] + len(frames)), dtype=np.float32)
            grown[:, :length] = buffer[:, :length]
            buffer = grown
        buffer[:, length : length + len(frames)] = frames.T
        length += len(frames)
    return buffer[:, :length] if length == buffer.shape[1] else buffer[:, :length].copy()


def _next_block(file: soundfile.SoundFile, block: np.ndarray, name: str, length: int) -> np.ndarray:
    try:
        return file.read(dtype="float32", always_2d=True, out=block)
    except soundfile.SoundFileError:
        if length == 0:
            raise
        _LOGGER.warning("%s: damaged after %.2f s; only what comes before is used.", name, length / file.samplerate)
        return block[:0]


def _close_wav(source: Path | io.BytesIO) -> io.BytesIO | None:
    """A WAV whose recorder stopped before writing the lengths, with the length it has; None for any other file."""
    data = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    closed = len(data) - 8 == int.from_bytes(data[4:8], "little")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE" or closed:
        return None
    at = 12
    while at + 8 < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            rest = len(data) - at - 8
            return io.BytesIO(data[: at + 4] + rest.to_bytes(4, "little") + data[at + 8 :]) if size == 0 else None
        at += 8 + size + size % 2
    return None
