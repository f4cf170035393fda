"""Trunk features of a whole corpus, computed once: what heads are trained on and embedding banks are made from."""

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from marssep.query.encoder import QueryEncoder

_LOG = logging.getLogger(__name__)
_KINDS = ("audio", "image", "text", "variant")
_FILES = {"features": ("audio", "text"), "pictures": ("image", "variant")}  # a file each: sounds take long to redo
_FORMATS = {"features": 1, "pictures": 3}  # raise when the crops, the variants or the trunks' input change
_BATCH = 64
_SAVE_EVERY = 1000  # items: what an interrupted run loses at most
N_CROPS = 6
N_VARIANTS = 6
_LONGEST = 20.0  # seconds of a recording that count
_CROP_SECONDS = (4.0, 6.0)


class QueryCorpus(Protocol):
    """What is needed of a corpus (`marssep.corpus.Corpus`); the room of corpora comes later than this one."""

    items: list[Any]

    def audio(self, id: str) -> np.ndarray:
        """Mono float32 `[n]`."""

    def image(self, id: str) -> Image.Image:
        """The picture."""


@dataclass(frozen=True)
class TrunkFeatures:
    """Features by content.

    Attributes:
        audio: sha256 of the file -> `[N_CROPS, f]` float16; the first crop is the whole recording.
        image: sha256 of the file -> `[1, f]` float16.
        text: caption -> `[f]` float16.
        variant: sha256 of a training picture -> `[N_VARIANTS, f]` float16, of random variants of it.
    """

    audio: dict[str, np.ndarray]
    image: dict[str, np.ndarray]
    text: dict[str, np.ndarray]
    variant: dict[str, np.ndarray]

    @classmethod
    def build(
        cls,
        corpus: QueryCorpus,
        encoder: QueryEncoder,
        cache: Path,
        *,
        sample_rate: int = 32000,
        progress: Callable[[int, int], None] | None = None,
    ) -> "TrunkFeatures":
        """Compute what the cache does not have yet, and keep it.

        Args:
            corpus: its recordings, pictures and captions are read.
            encoder: only its trunks are used; what it does not take stays empty.
            cache: folder for the files; shared by corpora, since the key is the content, under the trunks' weights.
            sample_rate: of `corpus.audio`, Hz.
            progress: called with (done, total) items.
        """
        store = _Store(cache, encoder.trunks)
        known = store.read()
        missing = _missing(corpus.items, known, encoder)
        if any(missing.values()):
            done, total = 0, sum(len(rows) for rows in missing.values())
            _LOG.info("features of %d recordings, pictures and captions, once, into %s", total, cache)
            for kind, keys, features in _compute(corpus, encoder, missing, sample_rate):
                rows = dict(zip(keys, features.astype(np.float16), strict=True))
                known[kind].update(rows)
                store.add(kind, rows)
                done += len(keys)
                if progress is not None:
                    progress(done, total)
            store.save()
        return cls(**known)


class _Store:
    """Files that grow in number, not in size: a large corpus is not written again with every thousand items."""

    def __init__(self, cache: Path, trunks: str) -> None:
        self._stems = {name: cache / f"{name}-{trunks}-{_FORMATS[name]}" for name in _FILES}
        self._free: dict[str, list[Path]] = {name: [] for name in _FILES}  # damaged files, whose names are used again
        self._taken = dict.fromkeys(_FILES, 0)
        self._fresh: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _KINDS}

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        known: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _KINDS}
        for name, kinds in _FILES.items():
            while (path := self._path(name, self._taken[name])).is_file():
                self._taken[name] += 1
                tables = read_arrays(path)
                if not any(tables.values()):
                    self._free[name].append(path)
                for kind in kinds:
                    known[kind].update(tables[kind])
        return known

    def add(self, kind: str, rows: Mapping[str, np.ndarray]) -> None:
        self._fresh[kind].update(rows)
        if sum(len(table) for table in self._fresh.values()) >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        for name, kinds in _FILES.items():
            tables = {kind: self._fresh[kind] for kind in kinds}
            if any(tables.values()):
                path = self._free[name].pop() if self._free[name] else self._path(name, self._taken[name])
                self._taken[name] = max(self._taken[name], 1) if path.is_file() else self._taken[name] + 1
                write_arrays(path, tables)
        self._fresh = {kind: {} for kind in _KINDS}

    def _path(self, name: str, number: int) -> Path:
        stem = self._stems[name]
        return stem.with_name(f"{stem.name}{f'.{number}' if number else ''}.safetensors")


def _missing(
    items: Iterable[Any], known: dict[str, dict[str, np.ndarray]], encoder: QueryEncoder
) -> dict[str, dict[str, str]]:
    """Key -> id of what has to be computed, by kind; captions are their own id."""
    missing: dict[str, dict[str, str]] = {kind: {} for kind in known}
    takes = encoder.modalities
    for item in items:
        if "text" in takes:
            missing["text"].update({caption: caption for caption in item.captions if caption not in known["text"]})
        if item.kind not in takes:
            continue
        if item.sha256 not in known[item.kind]:
            missing[item.kind][item.sha256] = item.id
        if item.kind == "image" and item.split == "train" and item.sha256 not in known["variant"]:
            missing["variant"][item.sha256] = item.id
    return missing


@torch.no_grad()
def _compute(corpus: QueryCorpus, encoder: QueryEncoder, missing: dict[str, dict[str, str]], sample_rate: int) -> Any:
    """Yield (kind, keys, features) in batches."""
    for keys in _chunks(list(missing["text"])):
        yield "text", keys, encoder.text_features(keys).cpu().numpy()
    for keys in _chunks(list(missing["image"])):
        images = [corpus.image(missing["image"][key]) for key in keys]
        yield "image", keys, encoder.image_features(images).cpu().numpy()[:, None]
    for key, id in missing["variant"].items():
        rows = encoder.image_variants(corpus.image(id), N_VARIANTS, seed=zlib.crc32(key.encode()))
        yield "variant", [key], rows.cpu().numpy()[None]
    for key, id in missing["audio"].items():
        waveform = torch.from_numpy(corpus.audio(id)[: int(_LONGEST * sample_rate)])
        spans = _spans(len(waveform) / sample_rate, seed=zlib.crc32(key.encode()))
        yield "audio", [key], encoder.audio_crops(waveform.to(encoder.device), sample_rate, spans).cpu().numpy()[None]


def _spans(seconds: float, seed: int) -> list[tuple[float, float]]:
    """The whole recording and random parts of it, as shares of its length."""
    rng = np.random.default_rng(seed)
    spans = [(0.0, 1.0)]
    for _ in range(N_CROPS - 1):
        length = min(rng.uniform(*_CROP_SECONDS) / seconds, rng.uniform(0.5, 1.0))
        start = rng.uniform(0.0, 1.0 - length)
        spans.append((start, start + length))
    return spans


def _chunks(keys: Sequence[str]) -> Iterable[list[str]]:
    for at in range(0, len(keys), _BATCH):
        yield list(keys[at : at + _BATCH])


def read_arrays(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read tables of arrays by key; empty tables if there is no usable file, since it can be made again."""
    from safetensors import SafetensorError, safe_open

    tables: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _KINDS}
    if not path.is_file():
        return tables
    try:
        with safe_open(path, framework="np") as opened:
            keys = json.loads(opened.metadata()["keys"])
            for kind in tables:
                if keys.get(kind):
                    tables[kind] = dict(zip(keys[kind], opened.get_tensor(kind), strict=True))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        _LOG.warning("%s is damaged (%s) and is made again", path, error)
    return tables


def write_arrays(path: Path, tables: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write tables of equally shaped arrays by key, atomically."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    arrays = {kind: np.ascontiguousarray(np.stack(list(table.values()))) for kind, table in tables.items() if table}
    keys = json.dumps({kind: list(table) for kind, table in tables.items()})
    partial.write_bytes(save(arrays, metadata={"keys": keys}))  # save_file would make it unreadable for other users
    partial.replace(path)
