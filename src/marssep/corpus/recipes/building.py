"""Writing a corpus folder: cleaned recordings and pictures, their items, and the manifest at the end."""

import hashlib
import io
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from marssep.audio import encode_audio, resample, to_mono
from marssep.corpus.labels import class_of
from marssep.corpus.manifest import Item, write_manifest
from marssep.corpus.store import CORPUS_RATE, MANIFEST
from marssep.errors import CorpusError, OutputError

PEAK = 0.8
MAX_SECONDS = 20.0
MIN_SECONDS = 0.1
PICTURE_SIZE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of a recording or picture before it is stored.

    Attributes:
        label, split, recording, source, licence: as in `Item`.
        key: last part of the id; None makes it from `source`.
        captions: texts that describe this one; by default those of its class.
    """

    label: str
    split: str
    recording: str
    source: str
    licence: str
    key: str | None = None
    captions: tuple[str, ...] = ()


class CorpusBuilder:
    """Collects the items of one corpus folder; recipes add to it from several threads."""

    def __init__(self, folder: str | os.PathLike[str], *, name: str) -> None:
        """Start a corpus.

        Args:
            folder: where it goes; made if missing.
            name: first part of every id.
        """
        self.folder = Path(folder)
        self.name = name
        self._items: dict[str, Item] = {}
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another output folder.") from None

    def add_audio(self, waveform: np.ndarray, origin: Origin, *, sample_rate: int) -> Item | None:
        """Add a recording: mono, `CORPUS_RATE`, silence at both ends cut, at most 20 s, peak 0.8.

        Args:
            waveform: `[n]` or `[c, n]`.
            origin: where it comes from and where it goes.
            sample_rate: Hz.

        Returns:
            the item, or None if nothing audible of at least 0.1 s is left.
        """
        mono = to_mono(waveform)
        mono = trim_silence(mono, sample_rate)[: int(MAX_SECONDS * sample_rate)]
        if len(mono) == 0:  # nothing but silence
            return None
        mono = resample(mono, from_rate=sample_rate, to_rate=CORPUS_RATE)
        peak = float(np.abs(mono).max(initial=0.0))
        if len(mono) < MIN_SECONDS * CORPUS_RATE or peak < 1e-4:
            return None
        fade = min(len(mono) // 4, CORPUS_RATE // 200)
        mono = mono * (PEAK / peak)
        mono[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        data = encode_audio(mono, sample_rate=CORPUS_RATE, format="OGG", subtype="VORBIS")
        return self._store(data, origin, suffix=".ogg", duration=round(len(mono) / CORPUS_RATE, 3))

    def add_picture(self, picture: Image.Image, origin: Origin) -> Item:
        """Add a picture: on white, fitted into a square of 224 px."""
        small = fit_square(picture).quantize(128)
        out = io.BytesIO()
        small.save(out, format="PNG", optimize=True)
        return self._store(out.getvalue(), origin, suffix=".png", duration=0.0)

    def finish(self) -> list[Item]:
        """Write the manifest.

        Raises:
            CorpusError: if nothing was added.
        """
        if not self._items:
            raise CorpusError(f"{self.folder}: the recipe found nothing to put in; check its source folder.")
        items = sorted(self._items.values(), key=lambda item: item.id)
        write_manifest(self.folder / MANIFEST, items)
        return items

    def _store(self, data: bytes, origin: Origin, *, suffix: str, duration: float) -> Item:
        digest = hashlib.sha256(data).hexdigest()
        sound = class_of(origin.label)
        key = (
            origin.key
            or f"{slug(origin.source.split('/')[0])}-{hashlib.sha256(origin.source.encode()).hexdigest()[:8]}"
        )
        kind = "image" if suffix == ".png" else "audio"
        id = f"{self.name}/{origin.label}/{key}" if kind == "audio" else f"{self.name}/pictures/{origin.label}/{key}"
        path = f"{kind}/{origin.label}/{key}{suffix}"
        item = Item(
            id=id,
            kind="image" if kind == "image" else "audio",
            path=path,
            label=origin.label,
            captions=origin.captions or sound.captions,
            group=sound.group,
            split=origin.split,
            recording=origin.recording,
            source=origin.source,
            licence=origin.licence,
            sha256=digest,
            duration=duration,
            sample_rate=CORPUS_RATE if kind == "audio" else 0,
        )
        with self._lock:
            if id in self._items:
                raise CorpusError(
                    f"{origin.source}: its id '{id}' is taken by {self._items[id].source}; give it a key."
                )
            self._items[id] = item
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(data)
        os.replace(partial, target)
        return item


def trim_silence(waveform: np.ndarray, sample_rate: int, *, below_db: float = 50.0) -> np.ndarray:
    """Cut both ends that lie more than `below_db` under the loudest 20 ms."""
    frame = max(1, sample_rate // 50)
    n_frames = -(-len(waveform) // frame)
    padded = np.pad(waveform, (0, n_frames * frame - len(waveform))).reshape(n_frames, frame)
    level = np.sqrt(np.mean(np.square(padded), axis=1))
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (-below_db / 20))
    if len(loud) == 0:
        return waveform[:0]
    return waveform[loud[0] * frame : (loud[-1] + 1) * frame]


def fit_square(picture: Image.Image, size: int = PICTURE_SIZE) -> Image.Image:
    """Put a picture on white and fit it into a square without distortion."""
    picture = picture.convert("RGBA")
    side = max(picture.size)
    board = Image.new("RGBA", (side, side), "white")
    board.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return board.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def slug(text: str) -> str:
    """Letters, digits, dots and dashes only, for ids and file names."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def need_folder(source: str | os.PathLike[str] | None, *, recipe: str, layout: str) -> Path:
    """The source folder of a folder recipe.

    Raises:
        CorpusError: if none was given or it does not exist.
    """
    if source is None or not Path(source).is_dir():
        raise CorpusError(f"{source}: no such folder; recipe '{recipe}' needs --source DIR with {layout}.")
    return Path(source)
