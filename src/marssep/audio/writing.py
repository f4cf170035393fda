"""Writing recordings: whole or not at all, with integer samples rounded to the nearest rather than cut."""

import contextlib
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile
from jaxtyping import Float, Int

from marssep.audio import riff
from marssep.errors import OutputError

# One call with minutes of Vorbis overflows libsndfile's stack.
_BLOCK_FRAMES = 1 << 16
_PCM_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_LITTLE_ROOM = 1 << 20
_MOST_WAV_BYTES = (1 << 32) - (1 << 21)  # beyond it, and room for tags, a WAV must be RF64


@dataclass(frozen=True, slots=True)
class Extras:
    """What goes into a file beside its samples, where its format can hold it.

    Attributes:
        tags: title, artist and so on, by soundfile's names.
        chunks: of a WAV, by name.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)


class AudioWriter:
    """Writes a recording block by block; it has its name only after `finish` and `publish`.

    Attributes:
        path: where the file will be.
        clipped: whether a sample lay beyond what an integer subtype can hold.

    Args:
        path: the extension chooses the format (`.wav`, `.flac`, `.ogg`, ...); its folder must exist. A WAV that will
            be too long for its header becomes an RF64.
        sample_rate: Hz.
        channels: of every block.
        subtype: sample format as soundfile names it; None takes `FLOAT` for WAV and the format's default otherwise.
        frames: samples per channel that will come, as far as is known.
        extras: tags and chunks.

    Raises:
        OutputError: if extension and subtype do not go together, or the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int,
        channels: int,
        subtype: str | None = None,
        frames: int = 0,
        extras: Extras | None = None,
    ) -> None:
        self.path = path
        self.clipped = False
        self._partial = path.with_name(path.name + ".partial")
        self._chunks = dict(extras.chunks) if extras else {}
        name = path.suffix.lstrip(".").upper()
        if name == "WAV":
            subtype = subtype or "FLOAT"
            if frames * channels * _BYTES.get(subtype, 4) > _MOST_WAV_BYTES:
                name = "RF64"
        _check_format(name, subtype, str(path))
        self._descriptor = -1
        try:
            self._descriptor = os.open(
                self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666
            )
            self._sound = soundfile.SoundFile(
                self._descriptor, "w", sample_rate, channels, subtype, format=name, closefd=False
            )
            self._bits = _PCM_BITS.get(self._sound.subtype)
            if extras and name in {"WAV", "RF64", "FLAC", "OGG"}:
                for tag, value in extras.tags.items():
                    if tag != "software":
                        setattr(self._sound, tag, value)
        except (OSError, soundfile.SoundFileError) as error:
            self.discard()
            raise _refusal(path, error) from None

    @property
    def bits(self) -> int | None:
        """Width of integer samples; None for all other sample formats."""
        return self._bits

    def write(self, block: np.ndarray) -> None:
        """Add samples `[c, n]`; those beyond full scale (1) are clipped by integer subtypes.

        Raises:
            OutputError: if there is no room, or the folder has gone.
        """
        if self._bits is None:
            self._write(block)
        else:
            # Converting here rounds to nearest and keeps 24 bits; libsndfile would cut towards minus infinity.
            self.write_steps(to_steps(block, bits=self._bits))

    def write_steps(self, steps: Int[np.ndarray, "c _"]) -> None:
        """Add samples that are whole numbers of an integer subtype's steps, as `to_steps` makes them.

        Raises:
            OutputError: if there is no room, or the folder has gone.
        """
        assert self._bits is not None
        packed, clipped = _packed(steps, self._bits)
        self.clipped = self.clipped or clipped
        self._write(packed)

    def _write(self, block: np.ndarray) -> None:
        frames = block.T
        try:
            for start in range(0, len(frames), _BLOCK_FRAMES):
                self._sound.write(frames[start : start + _BLOCK_FRAMES])
        except (OSError, soundfile.SoundFileError, AssertionError) as error:
            raise _refusal(self.path, error) from None

    def finish(self) -> None:
        """Complete the file under its temporary name and put it on the disk.

        Raises:
            OutputError: if there is no room.
        """
        try:
            self._sound.close()
            if self._chunks and self.path.suffix.lower() == ".wav":
                with open(self._descriptor, "r+b", closefd=False) as file:
                    riff.append_chunks(file, self._chunks)
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        except (OSError, soundfile.SoundFileError) as error:
            raise _refusal(self.path, error) from None

    def publish(self) -> None:
        """Give the finished file its name.

        Raises:
            OutputError: if the folder has gone or is read-only.
        """
        try:
            os.replace(self._partial, self.path)
        except OSError as error:
            raise _refusal(self.path, error) from None

    def discard(self) -> None:
        """Take back what was not published; harmless after `publish`."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError, soundfile.SoundFileError, AttributeError):
                self._sound.close()
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
        with contextlib.suppress(OSError):  # an unreachable folder has been reported already
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


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
    waveform = np.atleast_2d(np.asarray(waveform, dtype=np.float32))
    channels, frames = waveform.shape
    with AudioWriter(Path(path), sample_rate=sample_rate, channels=channels, subtype=subtype, frames=frames) as writer:
        writer.write(waveform)
        writer.finish()
        writer.publish()


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
    if subtype is None and format == "WAV":
        subtype = "FLOAT"
    _check_format(format, subtype, format)
    frames = np.atleast_2d(np.asarray(waveform, dtype=np.float32)).T
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(
            buffer,
            "w",
            samplerate=sample_rate,
            channels=frames.shape[1],
            format=format,
            subtype=subtype,
            compression_level=compression,
        ) as file:
            bits = _PCM_BITS.get(file.subtype)
            for start in range(0, len(frames), _BLOCK_FRAMES):
                block = frames[start : start + _BLOCK_FRAMES]
                file.write(block if bits is None else _packed(to_steps(block.T, bits=bits), bits)[0].T)
    except soundfile.SoundFileError as error:
        raise OutputError(f"{format}: cannot be encoded ({error}); use .wav instead.") from None
    return buffer.getvalue()


def quantise(waveform: np.ndarray, *, subtype: str) -> np.ndarray:
    """Round samples to what `subtype` can hold, so that differences of such waveforms are held exactly too.

    Args:
        waveform: real numbers, any shape.
        subtype: sample format as soundfile names it; anything but integer PCM returns the waveform as it is.

    Returns:
        float32 up to 24 bits, float64 for 32.
    """
    bits = _PCM_BITS.get(subtype)
    if bits is None:
        return waveform
    real = np.float64 if bits > 24 else np.float32
    return (_clipped(to_steps(waveform, bits=bits), bits) / real(1 << (bits - 1))).astype(real)


def to_steps(waveform: Float[np.ndarray, "*c n"], *, bits: int) -> Int[np.ndarray, "*c n"]:
    """Samples as whole numbers of the steps of an integer sample format, rounded to nearest and not clipped.

    Args:
        waveform: real numbers; full scale is 1.
        bits: of the format, 8 to 32.

    Returns:
        int32 up to 24 bits, int64 for 32; both hold far more than full scale.
    """
    wide = bits > 24  # float32 cannot hold 2^31 - 1
    scaled = np.multiply(waveform, float(1 << (bits - 1)), dtype=np.float64 if wide else np.float32)
    np.rint(scaled, out=scaled)
    most = 2.0**62 if wide else 2.0**30
    return np.clip(scaled, -most, most, out=scaled).astype(np.int64 if wide else np.int32)


def _check_format(name: str, subtype: str | None, path: str) -> None:
    if name not in soundfile.available_formats() or not soundfile.check_format(name, subtype):
        raise OutputError(f"{path}: cannot write '{subtype or name.lower()}' samples there; use .wav or .flac.")


def _refusal(path: Path, error: Exception) -> OutputError:
    if isinstance(error, OSError):
        return OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.")
    if isinstance(error, AssertionError):  # soundfile's word for fewer samples written than given
        return OutputError(f"{path}: cannot be written (no space left?); make room or choose another output folder.")
    reason = (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")
    if reason.startswith("System error"):  # libsndfile keeps the rest to itself
        with contextlib.suppress(OSError):
            if shutil.disk_usage(path.parent).free < _LITTLE_ROOM:
                reason = "no space left on the device"
        return OutputError(f"{path}: cannot be written ({reason}); make room or choose another output folder.")
    return OutputError(f"{path}: cannot be encoded ({reason}); use .wav, or choose another output folder.")


def _clipped(steps: np.ndarray, bits: int) -> np.ndarray:
    full_scale = 1 << (bits - 1)
    return np.clip(steps, -full_scale, full_scale - 1)


def _packed(steps: np.ndarray, bits: int) -> tuple[np.ndarray, bool]:
    """Steps as libsndfile takes them, its channels side by side, and whether some lay outside and were clipped."""
    full_scale = 1 << (bits - 1)
    clipped = bool(steps.size) and bool(steps.min() < -full_scale or steps.max() >= full_scale)
    held = (_clipped(steps, bits) if clipped else steps).T
    if bits == 16:  # as they lie in most files, so that nothing needs converting
        return held.astype(np.int16, order="C").T, clipped
    packed = held.astype(np.int32, order="C")
    packed <<= 32 - bits
    return packed.T, clipped


def make_folder(folder: Path) -> None:
    """Make an output folder.

    Raises:
        OutputError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this output folder ({error.strerror}); choose another.") from None
