"""What an archive will cost, from doing a few of its files before the start."""

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marssep.separate.archive.inputs import ArchiveInput
from marssep.separate.archive.ledger import RESULTS
from marssep.separate.archive.work import ArchiveJob, ArchiveWorker
from marssep.separate.separator import Separator

_PER_KIND = 3
_MOST = 12


@dataclass(frozen=True, slots=True)
class Estimate:
    """What doing all inputs will take.

    Attributes:
        files: to do.
        measured: files that were done to know.
        audio_hours: of recordings.
        worker_hours: of work of one worker.
        output_gb: of results.
        failing: share of the measured files that cannot be separated.
    """

    files: int
    measured: int
    audio_hours: float
    worker_hours: float
    output_gb: float
    failing: float

    def hours(self, workers: int) -> float:
        """Wall time, if workers do not slow each other down."""
        return self.worker_hours / workers


def estimate(job: ArchiveJob, inputs: Sequence[ArchiveInput], *, separator: Separator | None = None) -> Estimate:
    """Do a few files into a folder that is thrown away, and scale up by their bytes, kind of file by kind of file.

    The files are the smallest, the middle and the largest of each kind, in the order of how many bytes a kind has, at
    most twelve in all; kinds beyond that are taken to be like the measured ones.

    Args:
        job: the question.
        inputs: to do.
        separator: the model; loaded by the job's name if not given.
    """
    kinds: dict[str, list[ArchiveInput]] = defaultdict(list)
    for each in inputs:
        kinds[each.suffix].append(each)
    ordered = sorted(kinds.values(), key=lambda kind: -sum(each.size for each in kind))
    measured: dict[str, _Sums] = {}
    folder = Path(tempfile.mkdtemp(prefix="marssep-estimate-"))
    try:
        worker = ArchiveWorker(job, folder, separator)
        for kind in ordered[: _MOST // _PER_KIND]:
            measured[kind[0].suffix] = _measure(worker, _spread(kind), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    every = _Sums()
    for sums in measured.values():
        every.add(sums)
    whole = _Sums()
    for suffix, kind in kinds.items():
        known = measured.get(suffix, every)
        whole.add(known.scaled(sum(each.size for each in kind) / max(1, known.size)))
    return Estimate(
        files=len(inputs),
        measured=every.files,
        audio_hours=whole.audio / 3600,
        worker_hours=whole.took / 3600,
        output_gb=whole.written / 1e9,
        failing=every.failed / max(1, every.files),
    )


@dataclass
class _Sums:
    """Totals of some files: how many, those that failed, bytes read and written, seconds of audio and of work."""

    files: int = 0
    failed: int = 0
    size: float = 0.0
    written: float = 0.0
    audio: float = 0.0
    took: float = 0.0

    def add(self, other: "_Sums") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def scaled(self, factor: float) -> "_Sums":
        return _Sums(0, 0, self.size * factor, self.written * factor, self.audio * factor, self.took * factor)


def _measure(worker: ArchiveWorker, inputs: Sequence[ArchiveInput], folder: Path) -> _Sums:
    sums = _Sums()
    for each in inputs:
        start = time.monotonic()
        row = worker.process(each)
        sums.add(_Sums(1, row.status != "done", each.size, 0.0, row.duration, time.monotonic() - start))
    sums.written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder / RESULTS, ignore_errors=True)
    return sums


def _spread(kind: Sequence[ArchiveInput]) -> list[ArchiveInput]:
    """The smallest, the middle and the largest."""
    ordered = sorted(kind, key=lambda each: each.size)
    places = sorted({0, len(ordered) // 2, len(ordered) - 1})
    return [ordered[place] for place in places]
