"""The manifest: one JSON line per recording or picture, with what it shows, where it comes from and who may use it."""

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from marssep.errors import CorpusError

Kind = Literal["audio", "image"]
Group = Literal["instrument", "sound", "speech"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One recording or picture.

    Attributes:
        id: unique and stable name, e.g. `open/rain/ufoai-3f9a01bc`; mixture lists refer to it.
        kind: `audio` or `image`.
        path: file relative to the manifest's folder, or `SHARD.tar#MEMBER` for a packed item.
        label: class name, e.g. `dog`.
        captions: texts that describe it, the first being the label's plain text (`dog barking`).
        group: `instrument`, `sound` or `speech`.
        split: `train`, `val`, `test`, or a validation set of its own such as `esc10-val`.
        recording: what must not be shared between splits (source file, tune, speaker, art family, pitch set).
        source: package and path the item was made from, for credits.
        licence: SPDX-like name.
        sha256: of the file's bytes.
        duration: seconds; 0 for a picture.
        sample_rate: Hz; 0 for a picture.
    """

    id: str
    kind: Kind
    path: str
    label: str
    captions: tuple[str, ...]
    group: Group
    split: str
    recording: str
    source: str
    licence: str
    sha256: str
    duration: float = 0.0
    sample_rate: int = 0


_FIELDS = {field.name for field in dataclasses.fields(Item)}
_REQUIRED = {field.name for field in dataclasses.fields(Item) if field.default is dataclasses.MISSING}


def read_manifest(path: str | os.PathLike[str]) -> list[Item]:
    """Read a manifest.

    Raises:
        CorpusError: if the file is missing, or a line is not JSON or lacks a field; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"{path}: no such manifest; build the corpus with 'marssep data build' first.")
    items = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                items.append(_parse(line, f"{path}, line {number}"))
    return items


def write_manifest(path: str | os.PathLike[str], items: Iterable[Item]) -> None:
    """Write a manifest, sorted by id so that equal corpora give equal files; atomic."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as out:
        for item in sorted(items, key=lambda item: item.id):
            out.write(json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n")
    os.replace(partial, path)


def _parse(line: str, where: str) -> Item:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where}: not a JSON line ({error.msg}).") from None
    missing, unknown = _REQUIRED - row.keys(), row.keys() - _FIELDS
    if missing or unknown:
        raise CorpusError(f"{where}: missing fields {sorted(missing)}, unknown fields {sorted(unknown)}.")
    row["captions"] = tuple(row["captions"])
    return Item(**row)
