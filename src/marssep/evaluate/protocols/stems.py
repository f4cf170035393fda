"""Folders of stems: one for each recording (MUSDB and its like), or FUSS's `EXAMPLE_sources` beside `EXAMPLE.wav`.

A stem is a source; the mixture is the file beside or among the stems, or their sum where there is none.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from marssep.corpus.mixing import QuerySpec
from marssep.errors import CorpusError, InputError
from marssep.evaluate.material import Material, Rendered, Task
from marssep.evaluate.protocols.files import (
    SOUNDS,
    FilesMaterial,
    centre_cut,
    file_digest,
    find_below,
    plain,
    query_key,
    read_mono,
    words,
)
from marssep.settings import Settings

LABELS = "labels.csv"
"""Table that says what FUSS's sources are: mixture, source, label, and where wanted audio (a recording to ask by)."""


class StemsSettings(Settings):
    """Which stems are asked for and how."""

    texts: dict[str, str] = {}
    """Words for each stem that is asked for, by the file's name; the others are only heard."""
    mixture: str = "mixture"
    """Name of the mixture among the stems."""
    subset: str = "test"
    """Folder below the data folder that is used alone if it is there."""
    seconds: float = 0.0
    """The middle so-many seconds are used; 0 takes the whole recording."""


def stems_material(name: str, root: Path, settings: StemsSettings) -> Material:
    """Every folder below `root` that holds a stem with words in the settings.

    Raises:
        CorpusError: if there is none.
    """
    within = root / settings.subset if (root / settings.subset).is_dir() else root
    made = []
    for folder in sorted(path for path in (within, *within.rglob("*")) if path.is_dir()):
        stems = {path.stem: path for path in _sounds(folder)}
        asked = {stem: QuerySpec(stem, text, None, None) for stem, text in settings.texts.items() if stem in stems}
        if asked:
            mixture = stems.pop(settings.mixture, None)
            made.append(_recording(plain(folder.name), mixture, stems, asked, settings))
    if not made:
        raise CorpusError(f"{within}: no folder with stems called {', '.join(settings.texts)}.")
    return FilesMaterial(name, made)


def fuss_material(name: str, root: Path, settings: StemsSettings) -> Material:
    """Every example below `root` whose sources have labels; FUSS itself gives none.

    Raises:
        CorpusError: if there is no example or no table of labels, or its columns are others.
    """
    within = root / settings.subset if (root / settings.subset).is_dir() else root
    labels = _labels(root)
    made = []
    for folder in sorted(within.rglob("*_sources")):
        example = folder.name.removesuffix("_sources")
        stems = {path.stem: path for path in _sounds(folder)}
        asked = {stem: query for (mixture, stem), query in labels.items() if mixture == example}
        if asked:
            mixture = next((path for path in _sounds(folder.parent) if path.stem == example), None)
            made.append(_recording(plain(example), mixture, stems, asked, settings))
    if not made:
        raise CorpusError(f"{within}: no folder EXAMPLE_sources whose example is in {LABELS}.")
    return FilesMaterial(name, made)


def _recording(
    id: str, mixture: Path | None, stems: Mapping[str, Path], asked: Mapping[str, QuerySpec], settings: StemsSettings
) -> tuple[Task, Callable[[], Rendered]]:
    paths = [path for path in (mixture, *stems.values()) if path is not None]
    task = Task(
        id=id,
        queries=tuple(asked.values()),
        groups=("",) * len(asked),
        missing=tuple(f"{id}/{stem}" for stem in asked if stem not in stems),
        digest=file_digest(paths) + settings.model_dump_json(),
    )
    return task, lambda: _render(mixture, stems, list(asked), settings.seconds)


def _render(mixture: Path | None, stems: Mapping[str, Path], asked: Sequence[str], seconds: float) -> Rendered:
    read = {name: read_mono(path) for name, path in stems.items()}
    whole, rate = read_mono(mixture) if mixture is not None else _sum(list(read.values()))
    for name, (waveform, its_rate) in read.items():
        if (len(waveform), its_rate) != (len(whole), rate):
            raise InputError(
                f"{stems[name]}: {len(waveform)} samples at {its_rate} Hz, the mixture has {len(whole)} at {rate} Hz; "
                "stems and mixture must match."
            )
    length = round(seconds * rate) if seconds else len(whole)
    sources = np.stack([centre_cut(read[name][0], length) for name in asked])
    return Rendered(torch.from_numpy(centre_cut(whole, length).copy()), torch.from_numpy(sources), rate)


def _sum(read: Sequence[tuple[Float32[np.ndarray, " n"], int]]) -> tuple[Float32[np.ndarray, " n"], int]:
    shortest = min(len(waveform) for waveform, _ in read)
    return np.stack([waveform[:shortest] for waveform, _ in read]).sum(0), read[0][1]


def _sounds(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS)


def _labels(root: Path) -> dict[tuple[str, str], QuerySpec]:
    path = root / LABELS
    if not path.is_file():
        raise CorpusError(
            f"{path}: not there; FUSS names no classes, so a table with the columns mixture, source, label is needed."
        )
    queries = {}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if not {"mixture", "source", "label"} <= row.keys():
                raise CorpusError(f"{path}: needs the columns mixture, source, label.")
            example = find_below(root, row["audio"]) if row.get("audio") else None
            key = query_key([example]) if example is not None else row.get("audio") or None
            query = QuerySpec(row["label"], words(row["label"]), key, None)
            queries[Path(row["mixture"]).stem, Path(row["source"]).stem] = query
    return queries
