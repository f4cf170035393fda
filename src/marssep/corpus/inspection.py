"""Looking at a corpus: how much of what is in it, and whether it is whole."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from marssep.corpus.manifest import Item
from marssep.corpus.merge import split_clashes
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is of something.

    Attributes:
        sounds: recordings.
        minutes: of these recordings together.
        pictures: pictures.
    """

    sounds: int
    minutes: float
    pictures: int


def amounts(items: Sequence[Item], by: Literal["split", "group", "label", "licence"]) -> dict[str, dict[str, Amount]]:
    """Amounts by split, and within a split by another field (`split` gives one row per split)."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item.split, getattr(item, by)].append(item)
    table: dict[str, dict[str, Amount]] = defaultdict(dict)
    for (split, name), members in sorted(groups.items()):
        sounds = [item for item in members if item.kind == "audio"]
        minutes = sum(item.duration for item in sounds) / 60.0
        table[split][name] = Amount(len(sounds), minutes, len(members) - len(sounds))
    return dict(table)


def find_faults(folder: str | Path) -> list[str]:
    """What is wrong with a corpus folder, one sentence each: missing or altered files, splits that share recordings.

    Raises:
        CorpusError: if the manifest itself is missing or broken.
    """
    corpus = Corpus.open(folder)
    faults, digests = [], {}
    for item in corpus.items:
        try:
            if item.path not in digests:
                digests[item.path] = hashlib.sha256(corpus.data(item.id)).hexdigest()
        except CorpusError as error:
            faults.append(str(error))
            continue
        if digests[item.path] != item.sha256:
            faults.append(f"{item.path}: its content is not what the manifest says (sha256); build it again.")
    for recording, splits in split_clashes(corpus.items):
        faults.append(f"recording '{recording}' is in splits {', '.join(splits)}; a recording belongs to one split.")
    return faults
