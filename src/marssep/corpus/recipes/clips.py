"""Corpora of clips that a list names: what is there is taken, what is missing or broken is written down."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from marssep.audio import read_audio, read_frame
from marssep.corpus.manifest import Item
from marssep.corpus.recipes.building import CorpusBuilder, Origin, slug
from marssep.errors import CorpusError, InputError

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".mkv", ".webm", ".mov", ".avi")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
REPORT = "build-report.json"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip that a list names.

    Attributes:
        key: its name in the list, e.g. `e2rM750cFGc_000242`; missing ones are reported by it.
        path: of the sound or film; None if it is not there.
        label, captions, split, recording, licence: as in `Item`.
        pictures: frames or pictures that show it; the middle one is taken.
        pieces: parts of `seconds` each that a long recording is cut into; 0 keeps the beginning alone.
        seconds: of a piece.
    """

    key: str
    path: Path | None
    label: str
    split: str
    recording: str
    licence: str
    captions: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    pieces: int = 0
    seconds: float = 10.0


@dataclass
class Reading:
    """A list being read: `broken` gathers rows that make no sense."""

    broken: list[str] = field(default_factory=list)


def build_clips(
    name: str, clips: Iterable[Clip], output: str | os.PathLike[str], reading: Reading, *, workers: int = 2
) -> list[Item]:
    """Make a corpus of clips; `build-report.json` in it lists what is missing and what could not be used.

    Args:
        name: first part of every id.
        clips: as a list gives them; two of the same key count once.
        output: the corpus folder.
        reading: what the reader of the list found broken.
        workers: threads.

    Raises:
        CorpusError: no clip at all is there.
    """
    named = {clip.key: clip for clip in clips}
    missing = sorted(key for key, clip in named.items() if clip.path is None)
    if len(missing) == len(named):
        first = f", the first is '{missing[0]}'" if missing else ""
        raise CorpusError(f"{name}: of {len(named)} clips in the list none is below the source folder{first}.")
    builder = CorpusBuilder(output, name=name)
    with ThreadPoolExecutor(workers) as pool:
        found = (clip for clip in named.values() if clip.path is not None)
        faults = [fault for faults in pool.map(partial(_add, builder, name), found) for fault in faults]
    items = builder.finish()
    report = {
        "recipe": name,
        "listed": len(named),
        "items": len(items),
        "missing": missing,
        "unusable": faults,
        "broken_rows": reading.broken,
    }
    target = Path(output) / REPORT
    beside = target.with_name(target.name + ".partial")
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, target)
    for kind, count in (("missing", len(missing)), ("unusable", len(faults)), ("broken rows", len(reading.broken))):
        if count:
            _LOG.warning("%s: %d %s, listed in %s", name, count, kind, target)
    return items


def _add(builder: CorpusBuilder, name: str, clip: Clip) -> list[str]:
    """Sound and picture of one clip; what cannot be used is returned as sentences."""
    assert clip.path is not None
    origin = partial(
        Origin,
        label=clip.label,
        split=clip.split,
        recording=clip.recording,
        licence=clip.licence,
        captions=clip.captions,
    )
    faults = []
    try:
        audio = read_audio(clip.path)
        for number, piece in enumerate(_pieces(audio.waveform, audio.sample_rate, clip)):
            key = _file_name(clip.key) + (f"-{number}" if clip.pieces else "")
            made = builder.add_audio(piece, origin(source=f"{name}/{clip.key}", key=key), sample_rate=audio.sample_rate)
            if made is None and not clip.pieces:
                faults.append(f"{clip.key}: silent, or shorter than 0.1 s")
    except InputError as error:
        faults.append(f"{clip.key}: {error}")
    try:
        picture = _picture(clip)
        if picture is not None:
            builder.add_picture(picture, origin(source=f"{name}/{clip.key}/picture", key=_file_name(clip.key)))
    except (InputError, OSError, ValueError) as error:
        faults.append(f"{clip.key}: its picture cannot be read ({error})")
    return faults


def _file_name(key: str) -> str:
    """The key, with a digest where it cannot be a name: two keys never share one."""
    plain = re.sub(r"[^\w.-]", "-", key)
    return plain if plain == key else f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def _pieces(waveform: np.ndarray, sample_rate: int, clip: Clip) -> Iterator[np.ndarray]:
    if not clip.pieces:
        yield waveform
        return
    length = round(clip.seconds * sample_rate)
    count = max(1, min(clip.pieces, waveform.shape[-1] // length))
    step = max(0, waveform.shape[-1] - length) // max(1, count - 1)
    for number in range(count):
        yield waveform[..., number * step : number * step + length]


def _picture(clip: Clip) -> Image.Image | None:
    if clip.pictures:
        with Image.open(clip.pictures[len(clip.pictures) // 2]) as picture:
            return picture.convert("RGB")
    return read_frame(clip.path) if clip.path is not None else None


class Shelf:
    """The files below a folder, found by their name without ending; a folder of frames by the folder's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sounds: dict[str, Path] = {}
        self._pictures: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            ending = path.suffix.lower()
            if ending in SOUNDS:
                kept = self._sounds.setdefault(path.stem, path)
                if SOUNDS.index(ending) < SOUNDS.index(kept.suffix.lower()):  # a sound rather than its film
                    self._sounds[path.stem] = path
            elif ending in PICTURES:
                for name in {path.stem, _frames_of(path)}:
                    self._pictures.setdefault(name, []).append(path)

    def sound(self, *names: str) -> Path | None:
        """File of the first name that there is one of."""
        return next((self._sounds[name] for name in names if name in self._sounds), None)

    def pictures(self, *names: str) -> tuple[Path, ...]:
        """Pictures of the first name that has some."""
        return next((tuple(self._pictures[name]) for name in names if name in self._pictures), ())


def _frames_of(path: Path) -> str:
    # CLIPSep's folders of frames are named after the film, with its ending
    name = path.parent.name
    return Path(name).stem if Path(name).suffix.lower() in SOUNDS else name


def label_of(text: str) -> str:
    """Words as a label: `playing violin, fiddle` is `playing_violin_fiddle`."""
    return slug(text.lower()).replace("-", "_")


def held_out(key: str, share: int) -> bool:
    """One in `share`, by the key alone: for lists that have no validation part."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % share == 0


Recipe = Callable[[Path, Reading], Iterator[Clip]]
