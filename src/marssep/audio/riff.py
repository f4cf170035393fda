"""RIFF files by hand, where libsndfile believes a header too much or forgets a chunk: WAV and RF64.

Recorders that crash, pipes and files beyond 4 GiB leave lengths that are 0, all ones, or wrapped around. The samples
are there all the same: `mend` shows libsndfile the same file under a header that tells the truth.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass

from marssep.audio.views import Spliced

_UNKNOWN = 0xFFFFFFFF
_LARGEST = _UNKNOWN - 1
_MOST_CHUNKS = 10_000  # before the samples; a real file has a dozen
_MOST_KEPT = 1 << 20  # bytes of a chunk that is copied to the results
KEPT_CHUNKS = (b"bext", b"iXML")
"""What production sound needs to find the place again: start time, scene and take."""


@dataclass(frozen=True, slots=True)
class _Data:
    """Where the samples lie: file offset of the first, length by the header, length by the file's end."""

    start: int
    said: int
    available: int


def mend(file: io.BufferedIOBase) -> io.RawIOBase | None:
    """The same WAV under a header with the true length, or None if its own header will do.

    Args:
        file: open for reading; its position is not kept.
    """
    head = _read(file, 0, 12)
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RF64"):
        return None
    data = _find_data(file)
    if data is None or data.available <= data.said or not _lies(file, data, int.from_bytes(head[4:8], "little")):
        return None
    before = _read(file, 12, data.start - 12 - 8)
    if before[:4] == b"ds64":
        before = before[8 + int.from_bytes(before[4:8], "little") :]
    length = data.available
    total = 4 + len(before) + 8 + length
    if total + 36 <= _LARGEST:
        made = b"RIFF" + total.to_bytes(4, "little") + b"WAVE" + before + b"data" + length.to_bytes(4, "little")
    else:
        ds64 = (total + 36).to_bytes(8, "little") + length.to_bytes(8, "little") + bytes(8) + bytes(4)
        unknown = _UNKNOWN.to_bytes(4, "little")
        made = b"RF64" + unknown + b"WAVE" + b"ds64" + len(ds64).to_bytes(4, "little") + ds64 + before
        made += b"data" + unknown
    return Spliced(made, file, data.start)


def kept_chunks(file: io.BufferedIOBase) -> dict[bytes, bytes]:
    """The chunks of `KEPT_CHUNKS` that a WAV holds, without their headers."""
    head = _read(file, 0, 12)
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RF64"):
        return {}
    found: dict[bytes, bytes] = {}
    for name, start, size in _chunks(file, long_data=_long_size(file)):
        if name in KEPT_CHUNKS and 0 < size <= _MOST_KEPT:
            found[name] = _read(file, start, size)
    return found


def append_chunks(file: io.BufferedIOBase, chunks: Mapping[bytes, bytes]) -> None:
    """Add chunks to the end of a finished WAV or RF64 and correct its length.

    Args:
        file: open for reading and writing.
        chunks: contents by name.
    """
    if not chunks:
        return
    file.seek(0, os.SEEK_END)
    if file.tell() % 2:
        file.write(b"\0")
    for name, content in chunks.items():
        file.write(name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2))
    total = file.tell() - 8
    if _read(file, 0, 4) == b"RF64":
        file.seek(20)  # RF64, length, WAVE, ds64, length of ds64
        file.write(total.to_bytes(8, "little"))
    else:
        file.seek(4)
        file.write(total.to_bytes(4, "little"))


def start_chunk(seconds: float, sample_rate: int) -> bytes:
    """A broadcast extension that says only where on the time line the recording begins."""
    fields = (
        bytes(256 + 32 + 32 + 10 + 8) + round(seconds * sample_rate).to_bytes(8, "little") + (1).to_bytes(2, "little")
    )
    return fields.ljust(602, b"\0")


def _chunks(file: io.BufferedIOBase, *, long_data: int | None = None) -> "list[tuple[bytes, int, int]]":
    """Name, offset and length of the chunks, as far as they can be followed."""
    end = file.seek(0, os.SEEK_END)
    found: list[tuple[bytes, int, int]] = []
    at = 12
    while at + 8 <= end and len(found) < _MOST_CHUNKS:
        header = _read(file, at, 8)
        size = int.from_bytes(header[4:8], "little")
        if header[:4] == b"data" and size == _UNKNOWN and long_data is not None:
            size = long_data
        found.append((header[:4], at + 8, size))
        at += 8 + size + size % 2
    return found


def _find_data(file: io.BufferedIOBase) -> _Data | None:
    end = file.seek(0, os.SEEK_END)
    names = []
    for name, start, size in _chunks(file, long_data=_long_size(file)):
        names.append(name)
        if name == b"data":
            return _Data(start, size, end - start) if b"fmt " in names else None
    return None


def _long_size(file: io.BufferedIOBase) -> int | None:
    """Length of the samples as RF64 has it."""
    ds64 = _read(file, 12, 8 + 28)
    return int.from_bytes(ds64[16:24], "little") if ds64[:4] == b"ds64" and len(ds64) == 36 else None


def _lies(file: io.BufferedIOBase, data: _Data, riff: int) -> bool:
    """Whether what follows the samples by the header is more samples rather than chunks, tags or padding."""
    beyond = data.start + data.said + data.said % 2
    rest = data.available - data.said - data.said % 2
    if rest < 8 or riff + 8 == data.start + data.available:
        return False
    if data.said == 0:
        return True
    follows = _read(file, beyond, 8)
    is_chunk = all(32 <= byte < 127 for byte in follows[:4]) and int.from_bytes(follows[4:8], "little") <= rest
    is_tag = follows[:3] in (b"ID3", b"TAG", b"APE")
    is_padding = not any(_read(file, beyond, min(rest, 4096)))
    return not (is_chunk or is_tag or is_padding)


def _read(file: io.BufferedIOBase, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(max(0, size))
