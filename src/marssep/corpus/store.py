"""The corpus as the rest of the house sees it: items to choose from, and their sounds and pictures in memory."""

import hashlib
import io
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from marssep.audio import decode_audio, resample, to_mono
from marssep.corpus.held import HeldShards, ShardName
from marssep.corpus.manifest import Group, Item, Kind, read_manifest
from marssep.corpus.shards import ItemReader, split_path
from marssep.errors import CorpusError

MANIFEST = "manifest.jsonl"
CORPUS_RATE = 32000
"""Hz. Mixtures are made at this rate; the network hears up to 16 kHz."""

_CACHE_FORMAT = "int16-mono-v1"
_HEADER_BYTES = 128
_STEP = np.float32(1 / 32768)
_ABANDONED_SECONDS = 600.0  # what is being decoded is written to all the time
_BUILDING = threading.Lock()  # threads of one process must not decode the same corpus twice

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


class Corpus:
    """One or several corpus folders, each a `manifest.jsonl` with files or tar shards beside it.

    Sounds are decoded once per manifest into a memory map of 16-bit samples, so that a training start costs seconds.
    The map lies in the corpus folder, or in the cache folder if that is not writable. A corpus opened for streaming has
    no map: sounds of shards that are held are in memory, others are decoded whenever they are asked for.

    Args:
        folders: of the corpus.
        streaming: without a map.
    """

    def __init__(self, folders: Sequence[PathLike], *, streaming: bool = False) -> None:
        self.folders, self.streaming = [Path(folder) for folder in folders], streaming
        self.items: list[Item] = []
        self._folder_of: dict[str, int] = {}
        for number, folder in enumerate(self.folders):
            for item in read_manifest(folder / MANIFEST):
                if item.id in self._folder_of:
                    raise CorpusError(f"{folder / MANIFEST}: id '{item.id}' occurs twice; ids must be unique.")
                self._folder_of[item.id] = number
                self.items.append(item)
        self.by_id = {item.id: item for item in self.items}
        self._readers = [ItemReader(folder) for folder in self.folders]
        self._decoded: dict[int, _DecodedSounds] = {}
        self._shards: dict[ShardName, list[Item]] = {}
        self._held = HeldShards(self._decode_shard)

    @classmethod
    def open(cls, folder_or_folders: PathLike | Iterable[PathLike], *, streaming: bool = False) -> Self:
        """Open one corpus folder or several as one.

        Args:
            folder_or_folders: with a manifest each.
            streaming: do not decode sounds once for all; `hold` says which shards are needed.

        Raises:
            CorpusError: if a manifest is missing or broken, or an id occurs twice.
        """
        single = isinstance(folder_or_folders, str | os.PathLike)
        folders: Any = [folder_or_folders] if single else list(folder_or_folders)  # type: ignore[arg-type]
        return cls(folders, streaming=streaming)

    def select(
        self,
        *,
        kind: Kind | None = None,
        split: str | None = None,
        group: Group | None = None,
        label: str | None = None,
    ) -> list[Item]:
        """The items that match every given field, in the order of the manifests."""
        wanted = {"kind": kind, "split": split, "group": group, "label": label}
        fields = {name: value for name, value in wanted.items() if value is not None}
        return [item for item in self.items if all(getattr(item, name) == value for name, value in fields.items())]

    def audio(self, id: str, *, start: int = 0, length: int | None = None) -> np.ndarray:
        """The waveform of a recording, or `length` samples of it from `start`: float32 [n], mono, at `CORPUS_RATE`.

        Raises:
            CorpusError: if there is no such recording.
        """
        item = self._item(id, "audio")
        number = self._folder_of[id]
        if self.streaming:
            samples = self._held.find((number, split_path(item.path)[0]), item.path)
            if samples is None:
                samples = _decode(self._readers[number], item)
            return _as_float(samples[start:] if length is None else samples[start : start + length])
        if number not in self._decoded:
            sounds = [item for item in self.items if item.kind == "audio" and self._folder_of[item.id] == number]
            with _BUILDING:
                self._decoded[number] = _DecodedSounds.open(self._readers[number], sounds)
        return self._decoded[number].waveform(item.id, start, length)

    def image(self, id: str) -> Image.Image:
        """The picture of an item, RGB.

        Raises:
            CorpusError: if there is no such picture.
        """
        item = self._item(id, "image")
        return Image.open(io.BytesIO(self._readers[self._folder_of[id]].read(item))).convert("RGB")

    def data(self, id: str) -> bytes:
        """The bytes of an item's file, as stored."""
        return self._readers[self._folder_of[id]].read(self.by_id[id])

    def shards(self, split: str) -> dict[ShardName, list[Item]]:
        """The recordings of a split by the shard that they lie in.

        Raises:
            CorpusError: if one of them is a plain file.
        """
        found: dict[ShardName, list[Item]] = defaultdict(list)
        for item in self.select(kind="audio", split=split):
            name, member = split_path(item.path)
            if member is None:
                raise CorpusError(
                    f"{self.folders[self._folder_of[item.id]]}: recordings of the split '{split}' are plain files; "
                    "streaming reads shards, which `marssep data pack` writes."
                )
            found[self._folder_of[item.id], name].append(item)
        self._shards |= found
        return dict(found)

    def hold(self, owner: Hashable, shards: Sequence[ShardName], *, soon: Sequence[ShardName] = ()) -> None:
        """Keep these shards of `shards(split)` decoded in memory until the owner asks for others; `soon` comes next."""
        self._held.hold(owner, shards, soon=soon)

    @property
    def held(self) -> set[ShardName]:
        """Shards in memory."""
        return self._held.names

    def _decode_shard(self, name: ShardName) -> dict[str, np.ndarray]:
        reader = self._readers[name[0]]
        return {path: _decode(reader, item) for path, item in {item.path: item for item in self._shards[name]}.items()}

    def decode_all(self) -> None:
        """Build the decoded cache of every folder now instead of at the first sound; nothing if it is streamed."""
        if self.streaming:
            return
        first = {self._folder_of[item.id]: item.id for item in self.items if item.kind == "audio"}
        for id in first.values():
            self.audio(id)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled as gigabytes of samples; workers open their own.
        return {name: value for name, value in self.__dict__.items() if name != "_held"} | {"_decoded": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = HeldShards(self._decode_shard)

    def _item(self, id: str, kind: Kind) -> Item:
        item = self.by_id.get(id)
        if item is None or item.kind != kind:
            folders = ", ".join(str(folder) for folder in self.folders)
            raise CorpusError(f"{folders}: no {kind} item '{id}'; is this the corpus the list was made for?")
        return item


class _DecodedSounds:
    """A memory map of all waveforms of one folder, and where each begins."""

    def __init__(self, path: Path, spans: dict[str, tuple[int, int]]) -> None:
        self._spans = spans
        self._samples = np.load(path, mmap_mode="r")

    @classmethod
    def open(cls, reader: ItemReader, items: list[Item]) -> Self:
        digest = hashlib.sha256(f"{_CACHE_FORMAT} {CORPUS_RATE}".encode())
        for item in items:
            digest.update(f"\n{item.id} {item.path} {item.sha256}".encode())
        name = f"decoded-{digest.hexdigest()[:16]}"
        folder = reader.folder
        if not _is_built(folder, name) and not os.access(folder, os.W_OK):
            folder = _cache_folder()
        if not _is_built(folder, name):
            _build(reader, items, folder / name)
        rows = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return cls(folder / f"{name}.npy", {id: (start, length) for id, start, length in rows})

    def waveform(self, id: str, start: int, length: int | None) -> np.ndarray:
        first, total = self._spans[id]
        stop = total if length is None else min(start + length, total)
        return _as_float(self._samples[first + min(start, stop) : first + stop])


def _as_float(samples: np.ndarray) -> np.ndarray:
    return np.multiply(samples, _STEP, dtype=np.float32)


def _is_built(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").is_file() and (folder / f"{name}.npy").is_file()


def _build(reader: ItemReader, items: list[Item], target: Path) -> None:
    """Decode every sound into `target`.npy and .json; other processes see both or neither."""
    logger.info("decoding %d sounds of %s once, into %s.npy", len(items), reader.folder, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent == reader.folder:  # the cache folder is shared by many corpora
        for path in target.parent.glob("decoded-*"):
            if _is_stale(path, target.name):
                path.unlink(missing_ok=True)
    partial = target.with_name(f"{target.name}.npy.{os.getpid()}.partial")
    files = list(
        {item.path: item for item in items}.values()
    )  # several items may share a file, each with its own words
    where, total = {}, 0
    try:
        with partial.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
            out.write(b"\0" * _HEADER_BYTES)
            for item, samples in zip(files, pool.map(lambda item: _decode(reader, item), files), strict=True):
                out.write(samples.tobytes())
                where[item.path] = (total, len(samples))
                total += len(samples)
            out.seek(0)
            header = {"descr": "<i2", "fortran_order": False, "shape": (total,)}
            np.lib.format.write_array_header_1_0(out, header)
            assert out.tell() == _HEADER_BYTES, "numpy changed the size of its header"
        os.replace(partial, target.with_name(f"{target.name}.npy"))
    finally:
        partial.unlink(missing_ok=True)
    index = target.with_name(f"{target.name}.json.{os.getpid()}.partial")
    index.write_text(json.dumps([(item.id, *where[item.path]) for item in items]), encoding="utf-8")
    os.replace(index, target.with_name(f"{target.name}.json"))


def _is_stale(path: Path, name: str) -> bool:
    """Of another state of the manifest, or left by a process that was killed; not what another one is writing."""
    if path.suffix != ".partial":
        return not path.name.startswith(f"{name}.")
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:  # finished, or removed by another process
        return False


def _decode(reader: ItemReader, item: Item) -> np.ndarray:
    audio = decode_audio(reader.read(item), name=f"{reader.folder / item.path}")
    waveform = resample(to_mono(audio.waveform), from_rate=audio.sample_rate, to_rate=CORPUS_RATE)
    return np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2")


def _cache_folder() -> Path:
    from marssep.query.weights import cache_folder  # brings torch, which listing a corpus can do without

    return cache_folder() / "decoded"
