"""The archive readers, on small archives made here."""

import gzip
import io
import shutil
import struct
import subprocess
import zipfile
import zlib

import pytest

from marssep.corpus.recipes.archives import read_ocg, read_ottd, read_rcc, read_zip, unpack_archive
from marssep.corpus.recipes.packages import Package, fetch_packages
from marssep.errors import CorpusError

WAVE = b"RIFF\x24\x00\x00\x00WAVEfmt "
TEXT = b"a long text, a long text, a long text"


def make_rcc(version):
    names, blobs, tree = b"", b"", b""

    def name(text):
        nonlocal names
        offset = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return offset

    def blob(data):
        nonlocal blobs
        offset = len(blobs)
        blobs += struct.pack(">I", len(data)) + data
        return offset

    stamp = b"\0" * 8 if version >= 2 else b""
    compressed = struct.pack(">I", len(TEXT)) + zlib.compress(TEXT)
    tree += struct.pack(">IHII", 0, 2, 1, 1) + stamp  # the root, with one child
    tree += struct.pack(">IHII", name("sounds"), 2, 2, 2) + stamp
    tree += struct.pack(">IHHHI", name("bark.wav"), 0, 0, 0, blob(WAVE)) + stamp
    tree += struct.pack(">IHHHI", name("über.txt"), 1, 0, 0, blob(compressed)) + stamp
    start = 20
    places = start, start + len(tree), start + len(tree) + len(blobs)
    return b"qres" + struct.pack(">4i", version, *places) + tree + blobs + names


def make_ocg(files):
    """A group of (name, bytes) or (name, [files])."""
    entries, bodies = b"", b""
    for name, content in files:
        is_group = isinstance(content, list)
        data = make_ocg(content) if is_group else content
        entry = name.encode().ljust(264, b"\0") + struct.pack("<4i", is_group, len(data), 0, len(bodies))
        entries += entry.ljust(316, b"\0")
        bodies += data
    header = bytearray(b"RedWolf Design GrpFolder".ljust(36, b"\0") + struct.pack("<i", len(files)))
    header = bytearray(byte ^ 237 for byte in header.ljust(204, b"\0"))
    for place in range(0, len(header) - 2, 3):
        header[place], header[place + 2] = header[place + 2], header[place]
    packed = gzip.compress(bytes(header) + entries + bodies)
    return b"\x1e\x8c" + packed[2:]


def make_ottd(sounds):
    index, bodies = b"", b""
    for name, data in sounds:
        offset = 8 * len(sounds) + len(bodies)
        index += struct.pack("<II", offset | 0x80000000, len(data))
        bodies += bytes([len(name)]) + name.encode() + data
    return index + bodies


@pytest.mark.parametrize("version", [1, 2])
def test_rcc(version):
    assert dict(read_rcc(make_rcc(version))) == {"sounds/bark.wav": WAVE, "sounds/über.txt": TEXT}


def test_ocg_with_a_group_inside_a_group():
    data = make_ocg([("Rain.ogg", b"OggS1"), ("Animals.ocg", [("Wolf.ogg", b"OggS2"), ("Bird.ogg", b"")])])
    found = {"Rain.ogg": b"OggS1", "Animals.ocg/Wolf.ogg": b"OggS2", "Animals.ocg/Bird.ogg": b""}
    assert dict(read_ocg(data)) == found


def test_ottd():
    data = make_ottd([("Ship horn (by X)", b"junk" + WAVE), ("Train", WAVE)])
    assert dict(read_ottd(data)) == {"00_Ship_horn__by_X_.wav": WAVE, "01_Train.wav": WAVE}


def test_unpacking_writes_only_what_is_wanted_and_stays_in_its_folder(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("sound/dog.ogg", b"OggS")
        archive.writestr("readme.md", b"text")
        archive.writestr("../evil.ogg", b"OggS")
    (tmp_path / "0snd.pk3").write_bytes(out.getvalue())
    count = unpack_archive(tmp_path / "0snd.pk3", tmp_path / "into", wanted=lambda name: name.endswith(".ogg"))
    assert count == 1
    assert (tmp_path / "into" / "sound" / "dog.ogg").read_bytes() == b"OggS"
    assert not (tmp_path / "evil.ogg").exists()


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def test_a_zip_on_disk_gives_the_same_as_its_bytes(tmp_path):
    make_zip(tmp_path / "public.zip", {"audio/wolf.ogg": b"OggS", "art/wolf.png": b"PNG"})
    assert dict(read_zip((tmp_path / "public.zip").read_bytes())) == {"audio/wolf.ogg": b"OggS", "art/wolf.png": b"PNG"}
    found = read_zip(tmp_path / "public.zip", wanted=lambda name: name.endswith(".ogg"))
    assert dict(found) == {"audio/wolf.ogg": b"OggS"}


def test_of_a_zip_inside_a_package_only_the_sounds_stay(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: wolves\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: wolves\n"
    )
    (root / "usr").mkdir()
    make_zip(root / "usr" / "public.zip", {"audio/wolf.ogg": b"OggS", "art/wolf.png": b"PNG"})
    (tmp_path / "debs").mkdir()
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    command = ["dpkg-deb", "--root-owner-group", "-b", root, tmp_path / "debs" / "wolves_1_all.deb"]
    subprocess.run(command, check=True, capture_output=True)
    unpacked = fetch_packages(tmp_path, [Package("wolves", "deb", "", "CC0-1.0")])
    assert (unpacked / "wolves" / "archive" / "audio" / "wolf.ogg").read_bytes() == b"OggS"
    assert not (unpacked / "wolves" / "archive" / "art").exists()
    assert not (unpacked / "wolves" / "usr" / "public.zip").exists()


@pytest.mark.parametrize("suffix", [".rcc", ".ocg", ".cat", ".pk3", ".zip"])
@pytest.mark.parametrize("data", [b"", b"nothing of the kind" * 30])
def test_damaged_archives_are_named(tmp_path, suffix, data):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=rf"broken\{suffix}: not a readable"):
        unpack_archive(path, tmp_path / "into")
