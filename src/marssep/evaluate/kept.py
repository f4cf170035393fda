"""What an evaluation keeps to be listened to: `RUN/items.jsonl`, one line for each query, and its recordings."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float32

from marssep.audio import read_audio
from marssep.errors import InputError
from marssep.evaluate.results import write_text

ITEMS = "items.jsonl"
"""Name of the list inside a run folder."""


@dataclass(frozen=True, slots=True)
class KeptItem:
    """One query of one mixture and what every system gave for it; paths are relative to the run folder, with `/`.

    Attributes:
        mixture_id: name of the mixture in its list.
        query: place of the query in its mixture, from 0.
        label: class asked for.
        text: the query in words.
        mixture: recording of the mixture.
        reference: recording of the true target.
        estimates: recording of each system, by the system's name; at least one.
        image: picture the query was asked with, if any.
        audio: recording the query was asked with, if any.
    """

    mixture_id: str
    query: int
    label: str
    text: str
    mixture: str
    reference: str
    estimates: Mapping[str, str] = field(hash=False)
    image: str | None = None
    audio: str | None = None

    @property
    def name(self) -> str:
        """What tells the item from all others in its run, such as `000012/q0`."""
        return f"{self.mixture_id}/q{self.query}"


@dataclass(frozen=True, slots=True)
class KeptAudio:
    """The waveforms of a kept item, all of one rate, channel count and length.

    Attributes:
        mixture: full scale is 1.
        reference: the true target.
        estimates: by system.
        sample_rate: Hz.
    """

    mixture: Float32[np.ndarray, "c n"]
    reference: Float32[np.ndarray, "c n"]
    estimates: dict[str, np.ndarray]
    sample_rate: int


def read_kept(run: str | os.PathLike[str]) -> list[KeptItem]:
    """Read the list of a run folder; every file that it names is there.

    Keys that are not known here are left for others.

    Raises:
        InputError: if the list is missing, empty or names an item twice, if a line lacks a key, has no system or a
            path that leaves the folder, or if a recording is missing.
    """
    folder = Path(run)
    path = folder / ITEMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name a run folder of 'marssep evaluate --keep-audio'."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; run 'marssep evaluate --keep-audio' again.") from None
    items = [
        _checked(_parse(line, f"{path}:{number}"), folder, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not items:
        raise InputError(f"{path}: lists no items; run 'marssep evaluate --keep-audio N' with N of 1 or more.")
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: lists {twice} twice; keep one of the lines.")
    return items


def write_kept(run: str | os.PathLike[str], items: Iterable[KeptItem]) -> Path:
    """Write the list of a run folder, atomically, and return its path; the recordings are the caller's to write.

    Raises:
        OutputError: if the folder cannot be written.
    """
    path = Path(run) / ITEMS
    write_text(path, "".join(json.dumps(_line(item), ensure_ascii=False) + "\n" for item in items))
    return path


def read_kept_audio(run: str | os.PathLike[str], item: KeptItem) -> KeptAudio:
    """Read the recordings of one item.

    Raises:
        InputError: if one cannot be read or differs from the mixture in rate, channels or length.
    """
    folder = Path(run)
    mixture = read_audio(folder / item.mixture)

    def read(relative: str) -> np.ndarray:
        audio = read_audio(folder / relative)
        if audio.sample_rate != mixture.sample_rate:
            raise InputError(
                f"{folder / relative}: has {audio.sample_rate} Hz, its mixture {mixture.sample_rate} Hz; "
                "write all recordings of an item at one rate."
            )
        if audio.waveform.shape != mixture.waveform.shape:
            ours, theirs = _size(audio.waveform), _size(mixture.waveform)
            raise InputError(f"{folder / relative}: has {ours}, its mixture {theirs}; write them equally long.")
        return audio.waveform

    estimates = {system: read(path) for system, path in item.estimates.items()}
    return KeptAudio(mixture.waveform, read(item.reference), estimates, mixture.sample_rate)


def _line(item: KeptItem) -> dict[str, Any]:
    line: dict[str, Any] = {
        "mixture_id": item.mixture_id,
        "query": item.query,
        "label": item.label,
        "text": item.text,
        "mixture": item.mixture,
        "reference": item.reference,
        "estimates": dict(item.estimates),
    }
    return line | {key: value for key, value in (("image", item.image), ("audio", item.audio)) if value is not None}


def _parse(line: str, where: str) -> KeptItem:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); run 'marssep evaluate --keep-audio' again.") from None
    if not isinstance(values, dict):
        raise InputError(f"{where}: holds no JSON object; run 'marssep evaluate --keep-audio' again.")
    for key in ("mixture_id", "label", "text", "mixture", "reference"):
        if not isinstance(values.get(key), str) or not values[key]:
            raise InputError(f"{where}: '{key}' is missing or not text; add it.")
    query = values.get("query")
    if not isinstance(query, int) or isinstance(query, bool) or query < 0:
        raise InputError(f"{where}: 'query' is {query!r}; it must be a whole number of 0 or more.")
    estimates = values.get("estimates")
    if not isinstance(estimates, dict) or not estimates:
        raise InputError(f"{where}: 'estimates' names no system; there is nothing to listen to.")
    for path in (*estimates.values(), values.get("image"), values.get("audio")):
        if path is not None and not isinstance(path, str):
            raise InputError(f"{where}: path {path!r} must be text, relative to the run folder and inside it.")
    known = ("mixture_id", "query", "label", "text", "mixture", "reference", "estimates", "image", "audio")
    return KeptItem(**{key: values[key] for key in known if values.get(key) is not None})


def _checked(item: KeptItem, folder: Path, where: str) -> KeptItem:
    named = [item.mixture, item.reference, *item.estimates.values(), item.image, item.audio]
    for relative in named:
        if relative is None:
            continue
        if not _stays_inside(relative):
            raise InputError(f"{where}: path {relative!r} must be text, relative to the run folder and inside it.")
        if not (folder / relative).is_file():
            raise InputError(f"{where}: {folder / relative} is missing; copy the whole run folder or run it again.")
    return item


def _stays_inside(relative: str) -> bool:
    path = PurePosixPath(relative)
    return bool(relative) and not path.is_absolute() and ".." not in path.parts


def _size(waveform: np.ndarray) -> str:
    return f"{waveform.shape[1]} samples on {waveform.shape[0]} channel{'s' if waveform.shape[0] > 1 else ''}"
