"""Reading the archives that games keep their sounds in: Qt resources, OpenClonk groups, OpenTTD catalogues, zips."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from marssep.errors import CorpusError

_RCC_COMPRESSED, _RCC_FOLDER, _RCC_ZSTD = 1, 2, 4
_OCG_HEADER, _OCG_ENTRY = 204, 316


def read_rcc(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a Qt binary resource (`.rcc`), as written by `rcc --binary`.

    Entries compressed with zstd are skipped: nothing the recipe needs is.
    """
    if data[:4] != b"qres":
        raise ValueError("no 'qres' mark")
    version, tree, blobs, names = struct.unpack(">4i", data[4:20])
    entry_size = 22 if version >= 2 else 14

    def name_at(offset: int) -> str:
        start = names + offset
        (length,) = struct.unpack(">H", data[start : start + 2])
        return data[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * entry_size
        name_offset, flags = struct.unpack(">IH", data[at : at + 6])
        path = f"{prefix}/{name_at(name_offset)}".lstrip("/") if node else ""
        if flags & _RCC_FOLDER:
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, path)
        elif not flags & _RCC_ZSTD:
            (offset,) = struct.unpack(">I", data[at + 10 : at + 14])
            start = blobs + offset
            (size,) = struct.unpack(">I", data[start : start + 4])
            blob = data[start + 4 : start + 4 + size]
            yield path, zlib.decompress(blob[4:]) if flags & _RCC_COMPRESSED else blob

    yield from walk(0, "")


def read_ocg(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of an OpenClonk group (`.ocg`, `.ocd`), nested groups included.

    A group is a gzip stream, its mark altered, of a scrambled header, a table of entries and their bytes.
    """
    plain = _ungzip(data)
    header = _unscramble(plain[:_OCG_HEADER])
    if b"RedWolf Design GrpFolder" not in header:
        raise ValueError("no group header")
    (count,) = struct.unpack("<i", header[36:40])
    base = _OCG_HEADER + _OCG_ENTRY * count
    for number in range(count):
        entry = plain[_OCG_HEADER + _OCG_ENTRY * number :][:_OCG_ENTRY]
        name = entry[:260].split(b"\0")[0].decode("latin-1")
        is_group, size, _, offset = struct.unpack("<4i", entry[264:280])
        blob = plain[base + offset : base + offset + size]
        if is_group:
            for inner, content in read_ocg(blob):
                yield f"{name}/{inner}", content
        else:
            yield name, blob


def read_ottd(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Sounds of an OpenTTD catalogue (`.cat`), named `NN_DESCRIPTION.wav` by their order and description."""
    mask = 0x7FFFFFFF
    if len(data) < 8:
        raise ValueError("too short for a catalogue")
    count = (struct.unpack("<I", data[:4])[0] & mask) // 8
    for number in range(count):
        offset, size = struct.unpack("<II", data[8 * number : 8 * number + 8])
        offset &= mask
        length = data[offset]
        description = data[offset + 1 : offset + 1 + length].rstrip(b"\0").decode("latin-1")
        body = data[offset + 1 + length : offset + 1 + length + size]
        riff = body.find(b"RIFF")
        name = re.sub(r"[^A-Za-z0-9]", "_", description)[:90]
        yield f"{number:02d}_{name}.wav", body[max(riff, 0) :]


def read_zip(source: bytes | Path, *, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, bytes]]:
    """Files of a zip archive (`.pk3`, `.whl`, `.zip`).

    Given a path, it is read piece by piece and what is not wanted never: a game's one archive can be of several GB.
    """
    with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
        for info in archive.infolist():
            if not info.is_dir() and wanted(info.filename):
                yield info.filename, archive.read(info)


READERS: dict[str, Callable[[bytes], Iterator[tuple[str, bytes]]]] = {
    ".rcc": read_rcc,
    ".ocg": read_ocg,
    ".ocd": read_ocg,
    ".cat": read_ottd,
    ".pk3": read_zip,
    ".whl": read_zip,
    ".zip": read_zip,
}


def unpack_archive(path: Path, folder: Path, *, wanted: Callable[[str], bool] = lambda name: True) -> int:
    """Write the wanted files of an archive under `folder`.

    Returns:
        how many files were written.

    Raises:
        CorpusError: if the archive is damaged or of another kind than its name says.
    """
    count = 0
    try:
        reader = READERS[path.suffix]
        files = read_zip(path, wanted=wanted) if reader is read_zip else reader(path.read_bytes())
        for name, data in files:
            target = (folder / name).resolve()
            if wanted(name) and target.is_relative_to(folder.resolve()):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                count += 1
    except (ValueError, IndexError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise CorpusError(f"{path}: not a readable {path.suffix} archive ({error}); fetch the package again.") from None
    return count


def _ungzip(data: bytes) -> bytes:
    if data[:2] in (b"\x1e\x8c", b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(b"\x1f\x8b" + data[2:])
    return data


def _unscramble(header: bytes) -> bytes:
    swapped = bytearray(header)
    for place in range(0, len(swapped) - 2, 3):
        swapped[place], swapped[place + 2] = swapped[place + 2], swapped[place]
    return bytes(byte ^ 237 for byte in swapped)
