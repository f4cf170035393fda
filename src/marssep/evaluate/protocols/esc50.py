"""ESC-50 in AudioSep's manner: every clip once as the target, under another class, at 0 dB.

Two folders will do. AudioSep's own benchmark has the list `esc50_eval.csv` (idx, caption, target, noise) and ready
files `segment-IDX.wav` and `mixture-IDX.wav`; they are taken as they are. The ESC-50 repository has `meta/esc50.csv`
and `audio/`; there the partner is drawn by rule, and with `esc50_eval.csv` beside it the pairs are AudioSep's.
"""

import csv
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from marssep.corpus.mixing import QuerySpec
from marssep.errors import CorpusError, InputError
from marssep.evaluate.material import Material, Rendered, Task
from marssep.evaluate.protocols.files import FilesMaterial, at_snr, file_digest, find_below, plain, read_mono, words
from marssep.settings import Settings


class Esc50Settings(Settings):
    """How the mixtures are made."""

    pairs: str = "metadata/esc50_eval.csv"
    """AudioSep's list, below the data folder; without it the partners are drawn."""
    meta: str = "meta/esc50.csv"
    """ESC-50's own table of clips."""
    sample_rate: int = 32000
    """Hz, as AudioSep loads them."""
    snr_db: float = 0.0
    """Target over noise, where the mixtures are not ready-made."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One mixture: number in the list, what is asked for, and two clips."""

    number: str
    caption: str
    target: str
    noise: str


def esc50_material(name: str, root: Path, settings: Esc50Settings) -> Material:
    """The mixtures of one of the two folders.

    Raises:
        CorpusError: if the folder is neither.
    """
    listed, meta = find_below(root, settings.pairs), find_below(root, settings.meta)
    if listed is not None:
        pairs = [Pair(*row[:4]) for row in _rows(listed) if len(row) >= 4]
    elif meta is not None:
        pairs = draw_pairs({row["filename"]: row["category"] for row in _dicts(meta)})
    else:
        raise CorpusError(
            f"{root}: neither '{settings.pairs}' nor '{settings.meta}' is there; give ESC-50's or AudioSep's folder."
        )
    return FilesMaterial(name, [_mixture(root, pair, settings) for pair in pairs])


def draw_pairs(labels: Mapping[str, str]) -> list[Pair]:
    """Every clip in the order of its name, with a clip of another class drawn by a generator seeded with its place."""
    names = sorted(labels)
    pairs = []
    for place, target in enumerate(names):
        others = [name for name in names if labels[name] != labels[target]]
        if not others:
            raise CorpusError("ESC-50 has clips of one class only; mixtures need two.")
        noise = others[random.Random(place).randrange(len(others))]
        pairs.append(Pair(str(place), words(labels[target]), target, noise))
    return pairs


def _mixture(root: Path, pair: Pair, settings: Esc50Settings) -> tuple[Task, Callable[[], Rendered]]:
    ready = [f"mixture-{pair.number}.wav", f"segment-{pair.number}.wav"]
    names = ready if find_below(root, ready[0]) else [f"audio/{pair.target}", f"audio/{pair.noise}"]
    found = [find_below(root, name) for name in names]
    paths = [path for path in found if path is not None]
    task = Task(
        id=f"{int(pair.number):06d}-{plain(Path(pair.target).stem)}",
        queries=(QuerySpec(pair.caption, pair.caption, None, None),),
        groups=("",),
        missing=tuple(name for name, path in zip(names, found, strict=True) if path is None),
        digest=file_digest(paths) + settings.model_dump_json(),
    )
    if names is ready:
        return task, lambda: _ready(paths, settings.sample_rate)
    return task, lambda: _mixed(paths, settings)


def _ready(paths: Sequence[Path], sample_rate: int) -> Rendered:
    mixture, target = (read_mono(path, sample_rate=sample_rate)[0] for path in paths)
    if len(mixture) != len(target):
        raise InputError(f"{paths[1]}: {len(target)} samples, its mixture {len(mixture)}; they must be equally long.")
    return Rendered(torch.from_numpy(mixture), torch.from_numpy(target)[None], sample_rate)


def _mixed(paths: Sequence[Path], settings: Esc50Settings) -> Rendered:
    target, noise = (read_mono(path, sample_rate=settings.sample_rate)[0] for path in paths)
    length = min(len(target), len(noise))  # 5 s each
    target, noise = target[:length], at_snr(target[:length], noise[:length], settings.snr_db)
    return Rendered(torch.from_numpy(target + noise), torch.from_numpy(target)[None], settings.sample_rate)


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))[1:]


def _dicts(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"filename", "category"} <= rows[0].keys():
        raise CorpusError(f"{path}: needs the columns 'filename' and 'category' of ESC-50.")
    return rows
