"""Several corpus folders into one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from marssep.corpus.manifest import Item, write_manifest
from marssep.corpus.shards import split_path
from marssep.corpus.store import MANIFEST, Corpus
from marssep.errors import CorpusError, OutputError


def merge(folders: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> list[Item]:
    """Copy the items of several corpora, packed or not, into one folder of plain files named by their ids.

    Raises:
        CorpusError: if ids clash, or a recording would be in two splits of the merged corpus.
        OutputError: if the output is one of the inputs or cannot be written.
    """
    target = Path(output)
    if target.resolve() in {Path(folder).resolve() for folder in folders}:
        raise OutputError(f"{output}: is also an input; choose another output folder.")
    corpus = Corpus.open(folders)
    mixed = split_clashes(corpus.items)
    if mixed:
        name, splits = mixed[0]
        raise CorpusError(f"recording '{name}' is in splits {', '.join(splits)}; leave one of the corpora out.")
    return copy_items(corpus, corpus.items, target)


def copy_items(corpus: Corpus, items: Sequence[Item], target: Path) -> list[Item]:
    """Items of a corpus, packed or not, as plain files named by their ids in another folder, with their manifest.

    Raises:
        OutputError: the folder cannot be written.
    """
    merged = []
    for item in items:
        name, member = split_path(item.path)
        path = f"{item.id}{PurePosixPath(member or name).suffix}"
        try:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            partial = target / f"{path}.partial"
            partial.write_bytes(corpus.data(item.id))
            os.replace(partial, target / path)
        except OSError as error:
            raise OutputError(f"{target / path}: cannot be written ({error.strerror}); free some space.") from None
        merged.append(replace(item, path=path))
    write_manifest(target / MANIFEST, merged)
    return merged


def split_clashes(items: Sequence[Item]) -> list[tuple[str, list[str]]]:
    """Recordings that occur in more than one split, with those splits."""
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(f"{item.kind} {item.recording}", set()).add(item.split)
    return [(name, sorted(found)) for name, found in sorted(splits.items()) if len(found) > 1]
