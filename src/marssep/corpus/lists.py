"""The committed lists that define every validation and test mixture, one JSON line each."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marssep.corpus.mixing import MixingSettings, MixtureSampler, MixtureSpec, QuerySpec, SourceSpec
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError

LISTS = Path(__file__).parent / "lists"
"""Folder of the committed lists."""

_DURATION = 4.08  # seconds: what the network is trained on


@dataclass(frozen=True, slots=True)
class ListRecipe:
    """How a committed list was drawn.

    Attributes:
        split: whose recordings are mixed and asked by.
        picture_split: whose pictures are asked by.
        n_sources: sounds per mixture.
        n_mixtures: lines of the list.
        seed: of the sampler.
    """

    split: str
    picture_split: str
    n_sources: int
    n_mixtures: int
    seed: int


RECIPES = {
    "open-val": ListRecipe("val", "val", 2, 250, 101),
    "esc10-val": ListRecipe("esc10-val", "test", 2, 250, 102),
    "open-val-3": ListRecipe("val", "val", 3, 100, 103),
    "open-val-4": ListRecipe("val", "val", 4, 100, 104),
    "open-test": ListRecipe("test", "test", 2, 500, 201),
    "open-test-3": ListRecipe("test", "test", 3, 200, 202),
    "open-test-4": ListRecipe("test", "test", 4, 200, 203),
}
"""The committed lists: levels of +-10 dB relative to the first source, no background, one absent query each."""


def draw_list(name: str, corpus: Corpus) -> list[MixtureSpec]:
    """Draw a committed list again, from the corpus it belongs to."""
    recipe = RECIPES[name]
    sampler = MixtureSampler(
        corpus,
        split=recipe.split,
        picture_split=recipe.picture_split,
        settings=MixingSettings(background=0.0),
        duration=_DURATION,
        seed=recipe.seed,
    )
    return [sampler.draw(index, n_sources=recipe.n_sources) for index in range(recipe.n_mixtures)]


def list_path(name_or_path: str | os.PathLike[str]) -> Path:
    """File of a committed list by name, or the path itself if it is a file.

    Raises:
        CorpusError: if it is neither.
    """
    for path in (LISTS / f"{name_or_path}.jsonl", Path(name_or_path)):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in LISTS.glob("*.jsonl")))
    raise CorpusError(f"{name_or_path}: no such mixture list; known lists: {names}.")


def read_list(name_or_path: str | os.PathLike[str]) -> list[MixtureSpec]:
    """Read a list of mixtures.

    Raises:
        CorpusError: if the list does not exist or a line is broken.
    """
    path = list_path(name_or_path)
    specs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            specs.append(_parse(json.loads(line)))
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise CorpusError(f"{path}, line {number}: not a mixture ({error}).") from None
    return specs


def write_list(path: str | os.PathLike[str], specs: Iterable[MixtureSpec]) -> None:
    """Write a list of mixtures; atomic."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(asdict(spec), ensure_ascii=False) + "\n" for spec in specs), encoding="utf-8")
    os.replace(partial, path)


def check_list(specs: Iterable[MixtureSpec], corpus: Corpus) -> list[str]:
    """Ids of items that a list needs and the corpus lacks."""
    needed: set[str] = set()
    for spec in specs:
        needed.update(source.item for source in spec.sources)
        for query in (*spec.queries, *((spec.absent,) if spec.absent else ())):
            needed.update(id for id in (query.audio, query.image) if id)
    return sorted(needed - corpus.by_id.keys())


def _parse(row: dict[str, Any]) -> MixtureSpec:
    row["sources"] = tuple(SourceSpec(**source) for source in row["sources"])
    row["queries"] = tuple(QuerySpec(**query) for query in row["queries"])
    row["absent"] = QuerySpec(**row["absent"]) if row.get("absent") else None
    return MixtureSpec(**row)
