"""Writing recordings: whole or not at all, with integer samples rounded to the nearest rather than cut."""

import contextlib
import io
import os
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from marssep.errors import OutputError

# One call with minutes of Vorbis overflows libsndfile's stack.
_BLOCK_FRAMES = 1 << 16
_PCM_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def write_audio(
    path: str | os.PathLike[str], waveform: np.ndarray, *, sample_rate: int, subtype: str | None = None
) -> None:
    """Write a waveform; the file appears under its name only once it is complete.

    Args:
        path: the extension chooses the format (`.wav`, `.flac`, `.ogg`, ...); its folder must exist.
        waveform: `[n]` or `[c, n]`; values beyond full scale (1) are clipped by integer subtypes, kept by `FLOAT`.
        sample_rate: Hz.
        subtype: sample format as soundfile names it; None takes `FLOAT` for WAV and the format's default otherwise.

    Raises:
        OutputError: if the extension or subtype is unknown or the file cannot be written.
    """
    path = Path(path)
    format_name = path.suffix.lstrip(".").upper()
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as out:
            _encode(out, waveform, sample_rate=sample_rate, format_name=format_name, subtype=subtype, name=str(path))
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None
    finally:
        with contextlib.suppress(OSError):  # an unreachable folder has been reported already
            partial.unlink(missing_ok=True)


def encode_audio(
    waveform: np.ndarray,
    *,
    sample_rate: int,
    format: Literal["OGG", "FLAC", "WAV"] = "OGG",  # soundfile's own word for it
    subtype: str | None = None,
    compression: float | None = None,
) -> bytes:
    """Encode a waveform `[n]` or `[c, n]` in memory; arguments as for `write_audio`.

    Args:
        compression: 0 (best) to 1 (smallest), for Vorbis and Opus; None takes libsndfile's default.

    Raises:
        OutputError: if format and subtype do not go together.
    """
    buffer = io.BytesIO()
    _encode(
        buffer,
        waveform,
        sample_rate=sample_rate,
        format_name=format,
        subtype=subtype,
        name=format,
        compression=compression,
    )
    return buffer.getvalue()


def quantise(waveform: np.ndarray, *, subtype: str) -> np.ndarray:
    """Round samples to what `subtype` can hold, so that differences of such waveforms are held exactly too.

    Args:
        waveform: float32, any shape.
        subtype: sample format as soundfile names it; anything but integer PCM returns the waveform as it is.
    """
    bits = _PCM_BITS.get(subtype)
    if bits is None or bits > 24:  # float32 has 24 bits; PCM_32 cannot round it further
        return waveform
    return (_integers(waveform, bits) / np.float32(1 << (bits - 1))).astype(np.float32)


def _encode(
    out: BinaryIO | io.BytesIO,
    waveform: np.ndarray,
    *,
    sample_rate: int,
    format_name: str,
    subtype: str | None,
    name: str,
    compression: float | None = None,
) -> None:
    if subtype is None and format_name == "WAV":
        subtype = "FLOAT"
    if format_name not in soundfile.available_formats() or not soundfile.check_format(format_name, subtype):
        raise OutputError(f"{name}: cannot write '{subtype or format_name.lower()}' samples there; use .wav or .flac.")
    frames = np.atleast_2d(np.asarray(waveform, dtype=np.float32)).T
    try:
        with soundfile.SoundFile(
            out,
            "w",
            samplerate=sample_rate,
            channels=frames.shape[1],
            format=format_name,
            subtype=subtype,
            compression_level=compression,
        ) as file:
            bits = _PCM_BITS.get(file.subtype)
            for start in range(0, len(frames), _BLOCK_FRAMES):
                block = frames[start : start + _BLOCK_FRAMES]
                # Converting here rounds to nearest and keeps 24 bits; libsndfile would cut towards minus infinity.
                file.write(block if bits is None else _integers(block, bits) << (32 - bits))
    except soundfile.SoundFileError as error:
        raise OutputError(f"{name}: cannot be encoded ({error}); use .wav instead.") from None


def _integers(waveform: np.ndarray, bits: int) -> np.ndarray:
    full_scale = 1 << (bits - 1)
    # float32 cannot hold 2^31 - 1, so that one width is clipped in float64
    scaled = np.rint(np.asarray(waveform, dtype=np.float64 if bits > 24 else np.float32) * full_scale)
    return np.clip(scaled, -full_scale, full_scale - 1).astype(np.int32)
