"""A folder of anybody's outputs as a system: files found by name, each checked before it is scored.

A file is called `MIXTURE.QUERY.MODALITY.wav`, `MIXTURE.QUERY.wav` where the kind of query does not matter, and QUERY is
the number of the query in the mixture (from 0; the absent sound comes last) or the slug of its label
(`000012.dog-barking.text.flac`). Any format that libsndfile reads will do.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from marssep.audio import read_audio, slug
from marssep.errors import InputError
from marssep.evaluate.material import Rendered, Task, digest_of
from marssep.evaluate.queries import Progress
from marssep.evaluate.results import Modality
from marssep.evaluate.systems import Answer, Problem

KINDS: tuple[Modality | None, ...] = (None, "text", "audio", "image", "composed")
_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64"}


@dataclass(frozen=True)
class FolderSystem:
    """The recordings of a folder as a row of the tables.

    Attributes:
        name: of its rows.
        folder: where the files are, not in folders below.
    """

    name: str
    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every recording by the name that it must have, in lower case, without the extension.

        Raises:
            InputError: if the folder is missing or holds no recordings.
        """
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of estimates; give one with files MIXTURE.QUERY.wav.")
        found = {path.stem.lower(): path for path in sorted(self.folder.iterdir()) if path.suffix.lower() in _SUFFIXES}
        if not found:
            raise InputError(f"{self.folder}: no recordings in it; estimates are called MIXTURE.QUERY.MODALITY.wav.")
        return found

    @cached_property
    def kinds(self) -> tuple[Modality | None, ...]:
        """Kinds of query that occur among the files; for these a missing file is a gap."""
        endings = {stem.rsplit(".", 1)[-1] for stem in self.files}
        named = tuple(kind for kind in KINDS if kind is not None and kind in endings)
        plain = any(stem.rsplit(".", 1)[-1] not in KINDS for stem in self.files)
        return ((None,) if plain else ()) + named

    def identity(self, task: Task) -> str:
        """Names, sizes and times of the files for this mixture."""
        stats = [(path.name, path.stat()) for _, _, path in self._found(task)]
        return digest_of("folder", [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

    def prepare(self, tasks: Sequence[Task], *, jobs: int, progress: Progress | None) -> None:
        """Nothing."""

    def answers(self, task: Task, rendered: Rendered) -> tuple[list[Answer], list[Problem]]:
        """The files that fit the mixture; a gap and every file that does not fit is a problem."""
        found: dict[Modality | None, dict[int, Path]] = {kind: {} for kind in self.kinds}
        for kind, index, path in self._found(task):
            found[kind][index] = path
        answers, problems = [], []
        for kind, paths in found.items():
            good: dict[int, Tensor] = {}
            for index in range(len(task.all_queries)):
                if index not in paths:
                    if index < len(task.queries):  # nobody has to answer for an absent sound
                        problems.append(self._problem(task, index, f"no file {expected_name(task, index, kind)}.wav"))
                    continue
                try:
                    good[index] = _read(paths[index], rendered)
                except InputError as error:
                    problems.append(self._problem(task, index, str(error)))
            if good:
                answers.append(Answer.ungated(kind, list(good), torch.stack(list(good.values()))))
        return answers, problems

    def unknown_files(self, tasks: Sequence[Task]) -> list[str]:
        """Names of files that belong to no query of these mixtures: most likely misspelt."""
        known = {path.name for task in tasks for _, _, path in self._found(task)}
        return sorted(path.name for path in self.files.values() if path.name not in known)

    def _found(self, task: Task) -> Iterator[tuple[Modality | None, int, Path]]:
        for kind in self.kinds:
            for index in range(len(task.all_queries)):
                for name in names_of(task, index, kind):
                    if name.lower() in self.files:
                        yield kind, index, self.files[name.lower()]
                        break

    def _problem(self, task: Task, index: int, what: str) -> Problem:
        return Problem(task.id, index, self.name, what)


def expected_name(task: Task, index: int, modality: Modality | None) -> str:
    """What the file for a query is called, without its extension."""
    return names_of(task, index, modality)[0]


def names_of(task: Task, index: int, modality: Modality | None) -> list[str]:
    """All names that the file for a query may have: by number, and by label where the mixture has it once."""
    label = slug(task.all_queries[index].label)
    once = sum(slug(query.label) == label for query in task.all_queries) == 1
    ending = f".{modality}" if modality else ""
    return [f"{task.id}.{index}{ending}", *([f"{task.id}.{label}{ending}"] if once else [])]


def _read(path: str | os.PathLike[str], rendered: Rendered) -> Tensor:
    """The one channel of a file of the mixture's rate and length."""
    name = Path(path).name
    try:
        audio = read_audio(path)
    except InputError as error:
        raise InputError(str(error).replace(os.fspath(path), name)) from None
    length = rendered.mixture.shape[-1]
    if audio.sample_rate != rendered.sample_rate:
        raise InputError(f"{name}: {audio.sample_rate} Hz, the mixture has {rendered.sample_rate} Hz")
    if audio.waveform.shape != (1, length):
        channels, samples = audio.waveform.shape
        raise InputError(f"{name}: {samples} samples on {channels} channel(s), the mixture has {length} on 1")
    return torch.from_numpy(audio.waveform[0])
