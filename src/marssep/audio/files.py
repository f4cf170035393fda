"""Recordings as one array: from a file, from bytes, from a caller."""

import io
import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from marssep.audio.reading import AudioFile
from marssep.errors import InputError

_BLOCK_FRAMES = 1 << 16
# What a boastful header costs at most.
_FIRST_CAPACITY = 1 << 24


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
    return _decode(path, None)


def decode_audio(data: bytes, *, name: str) -> Audio:
    """Decode a recording held in memory, such as a member of a shard.

    Args:
        data: the bytes of an audio file.
        name: what to call it in error messages.

    Raises:
        InputError: as `read_audio`.
    """
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


def _decode(source: str | os.PathLike[str] | io.BufferedIOBase, name: str | None) -> Audio:
    with AudioFile(source, name=name) as file:
        # Samples go straight into a channel-first buffer: one copy in memory, whatever the header says of the length.
        buffer = np.empty((file.channels, max(1, min(file.frames_hint, _FIRST_CAPACITY))), dtype=np.float32)
        length = 0
        for block in file.blocks(_BLOCK_FRAMES):
            needed = length + block.shape[1]
            if needed > buffer.shape[1]:
                grown = np.empty((file.channels, buffer.shape[1] + needed), dtype=np.float32)
                grown[:, :length] = buffer[:, :length]
                buffer = grown
            buffer[:, length:needed] = block
            length = needed
        waveform = buffer[:, :length] if length == buffer.shape[1] else buffer[:, :length].copy()
        return Audio(check_waveform(waveform, name=file.name), file.sample_rate, file.subtype)
