"""Scores kept as they are made, so that a run that was stopped goes on where it was."""

import dataclasses
import json
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from marssep.errors import OutputError
from marssep.evaluate.scores import Score
from marssep.evaluate.systems import Problem

JOURNAL = "journal.jsonl"
"""Name of the file inside a run folder."""

Entry = tuple[list[Score], list[Problem]]

_NUMBERS = tuple(field.name for field in dataclasses.fields(Score) if field.type is float)


class Journal:
    """Scores by key; with a folder they outlive the process, without one they are forgotten with it.

    A line is appended and flushed for each mixture and system, so that what stops the process costs the mixture at work
    and no more. A line that was cut short is passed over. Keys hold whatever a score depends on: a changed model, list
    or setting finds nothing and is measured again, and what it measures is added.

    Args:
        folder: of the run; made if missing.
        fresh: forget what is there.

    Raises:
        OutputError: if the folder cannot be written.
    """

    def __init__(self, folder: Path | None, *, fresh: bool = False) -> None:
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if folder is None:
            return
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if fresh:
                path.unlink(missing_ok=True)
            self._file = path.open("a+", encoding="utf-8")
            self._load(self._file)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --run-folder.") from None

    def get(self, key: str) -> Entry | None:
        """The scores stored under a key."""
        return self._entries.get(key)

    def add(self, key: str, scores: Sequence[Score], problems: Sequence[Problem]) -> None:
        """Store the scores of one system on one mixture; safe from several threads."""
        line = json.dumps(
            {
                "key": key,
                "scores": [_row(score) for score in scores],
                "problems": [dataclasses.asdict(p) for p in problems],
            }
        )
        with self._lock:
            self._entries[key] = (list(scores), list(problems))
            if self._file is not None:
                self._file.write(line + "\n")
                self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _load(self, file: IO[str]) -> None:
        file.seek(0)
        text = file.read()
        for line in text.splitlines():
            try:
                row = json.loads(line)
                scores = [_score(each) for each in row["scores"]]
                self._entries[row["key"]] = (scores, [Problem(**each) for each in row["problems"]])
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # cut short, or written by another version
        file.seek(0, os.SEEK_END)
        if text and not text.endswith("\n"):
            file.write("\n")  # what comes next must not be glued to the broken line


def _row(score: Score) -> dict[str, Any]:
    values = dataclasses.asdict(score)
    return values | {name: None for name in _NUMBERS if math.isnan(values[name])}


def _score(values: dict[str, Any]) -> Score:
    fields: dict[str, Any] = dict(values)
    for name in _NUMBERS:
        if fields[name] is None:
            fields[name] = math.nan
    return Score(**fields)
