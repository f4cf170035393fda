"""A corpus as a few tar shards in WebDataset layout, small enough to carry around."""

import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from marssep.audio import encode_audio, resample
from marssep.corpus.manifest import Item, write_manifest
from marssep.corpus.shards import split_path
from marssep.corpus.store import CORPUS_RATE, MANIFEST, Corpus
from marssep.errors import CorpusError, OutputError
from marssep.settings import Settings

_OPUS_RATE = 48000

logger = logging.getLogger(__name__)


class PackSettings(Settings):
    """What is packed, and how tightly."""

    splits: tuple[str, ...] = ("train",)
    """Splits to pack; empty packs all of them."""
    recoded: tuple[str, ...] = ("train",)
    """Splits whose sounds are coded again as Opus to make them small. The others keep their bytes, so that reports on
    a packed corpus equal reports on the original."""
    compression: float = 0.97
    """Opus compression from 0 to 1; 0.94 gives about 24 kbit/s, 0.97 about 16."""
    shard_megabytes: float = 16.0
    """A shard is closed once it is this large."""
    seed: int = 1
    """Seed of the order of items: a stream of shards should not be sorted by class."""


@dataclass(frozen=True, slots=True)
class _Sample:
    item: Item
    key: str
    suffix: str
    data: bytes


def pack(corpus: Corpus, folder: str | os.PathLike[str], settings: PackSettings | None = None) -> list[Item]:
    """Write shards `SPLIT-NNN.tar` and a manifest that points into them; `Corpus.open` reads the result.

    A sample is `KEY.ogg` or `KEY.png` with `KEY.json` (id, label, text, split), as WebDataset wants it.

    Args:
        corpus: what to pack.
        folder: made by this call; it appears under its name when everything is in it.
        settings: what is packed, and how tightly.

    Returns:
        the packed items.

    Raises:
        CorpusError: if the corpus has nothing in the wanted splits.
        OutputError: if the folder exists and is not empty, or cannot be written.
    """
    settings = settings or PackSettings()
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{folder}: exists and is not empty; choose another output folder.")
    splits = settings.splits or tuple(dict.fromkeys(item.split for item in corpus.items))
    chosen = {split: corpus.select(split=split) for split in splits}
    empty = [split for split, items in chosen.items() if not items]
    if empty:
        known = ", ".join(sorted({item.split for item in corpus.items}))
        raise CorpusError(f"split '{empty[0]}': nothing in the corpus has it; its splits are {known}.")
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        packed = [
            item for split, items in chosen.items() for item in _pack_split(corpus, split, items, partial, settings)
        ]
        write_manifest(partial / MANIFEST, packed)
        if target.is_dir():
            target.rmdir()
        os.replace(partial, target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another output folder.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return packed


def _pack_split(corpus: Corpus, split: str, items: list[Item], folder: Path, settings: PackSettings) -> Iterator[Item]:
    order = np.random.default_rng(settings.seed).permutation(len(items))
    with ThreadPoolExecutor(2) as pool, ExitStack() as shards:
        shard: tarfile.TarFile | None = None
        name, number = "", 0
        for sample in pool.map(lambda place: _sample(corpus, items[place], settings), order):
            if shard is None or shard.offset > settings.shard_megabytes * 1e6:
                shards.close()
                name = f"{split}-{number:03d}.tar"
                shard = shards.enter_context(tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT))
                number += 1
            _write_member(shard, f"{sample.key}{sample.suffix}", sample.data)
            _write_member(shard, f"{sample.key}.json", _description(sample.item))
            yield replace(sample.item, path=f"{name}#{sample.key}{sample.suffix}")


def _sample(corpus: Corpus, item: Item, settings: PackSettings) -> _Sample:
    # WebDataset takes everything after the first dot for the suffix.
    key = item.id.replace(".", "_")
    if item.kind == "image" or item.split not in settings.recoded:
        name, member = split_path(item.path)
        return _Sample(item, key, PurePosixPath(member or name).suffix, corpus.data(item.id))
    waveform = resample(corpus.audio(item.id), from_rate=CORPUS_RATE, to_rate=_OPUS_RATE)
    data = encode_audio(
        waveform, sample_rate=_OPUS_RATE, format="OGG", subtype="OPUS", compression=settings.compression
    )
    digest = hashlib.sha256(data).hexdigest()
    return _Sample(replace(item, sha256=digest, sample_rate=_OPUS_RATE), key, ".ogg", data)


def _description(item: Item) -> bytes:
    about = {"id": item.id, "label": item.label, "text": item.captions[0] if item.captions else item.label}
    return json.dumps(about | {"split": item.split, "recording": item.recording}).encode()


def _write_member(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # no times, no owners
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))
