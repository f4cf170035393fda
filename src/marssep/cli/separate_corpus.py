"""`marssep separate-corpus`: a whole archive, on Ray."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from cyclopts import Group, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marssep.errors import OutputError, UsageError

if TYPE_CHECKING:
    from marssep.separate.archive import ArchiveInput, ArchiveJob, ArchiveRow, Ledger
    from marssep.separate.archive.engine import EngineSettings
    from marssep.separate.archive.estimate import Estimate

_QUERY = Group("Query (at least one of text, audio, image)")
_OUTPUT = Group("Results")
_WORKERS = Group("Workers")
_EVERY = 30.0  # seconds between two lines of progress where there is no bar


@Parameter(name="*", group=_QUERY)
@dataclass(frozen=True)
class ArchiveQuery:
    """What is asked for.

    Attributes:
        text: The sound in words, such as 'dog barking'.
        audio: An example of the sound.
        image: A picture of what makes the sound.
        negative: A sound, in words, to keep out of the target; give it several times for several sounds.
    """

    text: str | None = None
    audio: Path | None = None
    image: Path | None = None
    negative: Annotated[tuple[str, ...], Parameter(name="--not", negative=())] = ()

    def anywhere(self) -> dict[str, Any]:
        """With full paths, because workers start elsewhere."""
        files = {"audio": self.audio, "image": self.image}
        words = {"text": self.text, "negative": self.negative}
        return words | {kind: None if path is None else str(path.resolve()) for kind, path in files.items()}


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class ArchiveOptions:
    """What is kept, and what is done first.

    Attributes:
        model: A shipped model's name or a model folder.
        gate: Turn the target down when the sound seems to be absent.
        adapt: Learn from the recording itself what its sounds look like and where they come from.
        residual: Keep everything else, too.
        estimate: Do a few files, say what all will take, and stop.
        price: Of a worker for an hour, for the estimate.
        retry_quarantined: Try the files in quarantine again.
    """

    model: str = "default"
    gate: bool = True
    adapt: bool = True
    residual: bool = True
    estimate: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    price: float | None = None
    retry_quarantined: Annotated[bool, Parameter(negative=(), show_default=False)] = False


@Parameter(name="*", group=_WORKERS)
@dataclass(frozen=True)
class WorkerOptions:
    """How the work is spread.

    Attributes:
        workers: Most workers at a time, each with a model; 0 is as many as fit.
        min_workers: Fewest; the pool follows the queue. 0 is as many as workers.
        threads: Processors of a worker.
        gpus: GPUs of a worker; 0.5 lets two share one.
        address: HOST:PORT of a Ray cluster, or auto on a machine of it; without it Ray runs here, for this command.
    """

    workers: int = 0
    min_workers: int = 0
    threads: int = 1
    gpus: float = 0.0
    address: str | None = None


def separate_corpus(
    archive: Path,
    output: Path,
    *,
    query: ArchiveQuery | None = None,
    options: ArchiveOptions | None = None,
    workers: WorkerOptions | None = None,
) -> int:
    """Get a sound out of every recording of an archive: folders of files, tar shards, or both.

    Writes OUTPUT/manifest.jsonl, one line per recording, OUTPUT/quarantine.jsonl with what cannot be separated and why,
    and the results under OUTPUT/results, named by content. Run it again to go on; what is done stays as it is.

    Args:
        archive: Folder, tar shard or recording.
        output: Folder for the results of this question.
        query: What is asked for.
        options: What is kept, and what is done first.
        workers: How the work is spread.
    """
    query, options, workers = query or ArchiveQuery(), options or ArchiveOptions(), workers or WorkerOptions()
    if query.text is None and query.audio is None and query.image is None:
        raise UsageError("The query has nothing in it; give --text, --audio or --image.")

    from marssep.separate import Separator
    from marssep.separate.archive import ArchiveJob, Ledger, list_inputs
    from marssep.separate.archive.engine import EngineSettings, check_address

    settings = EngineSettings.parse(
        {name: getattr(workers, name) for name in WorkerOptions.__dataclass_fields__}, source="options of the workers"
    )
    if settings.address is not None:
        check_address(settings.address)  # before a model is loaded
    kept = {name: getattr(options, name) for name in ("gate", "adapt", "residual")}
    job = ArchiveJob(**query.anywhere(), model=_anywhere(options.model), **kept)
    found = list_inputs(archive, output=output)
    if found.ignored:
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.items())
        print(f"marssep: not recordings by their names, left alone: {others}", file=sys.stderr)
    separator = Separator.load(job.model)
    separator.embed(job.query)  # a query that cannot be used stops everything before the first recording is read
    if options.estimate:
        from marssep.separate.archive.estimate import estimate

        _tell(estimate(job, found.inputs, separator=separator), settings, price=options.price)
        return 0
    with Ledger(output, job.described(separator)) as ledger:
        waiting = ledger.waiting(found.inputs, quarantined=options.retry_quarantined)
        del separator  # every worker has its own
        bad = _work(job, ledger, waiting, settings=settings) if waiting else 0
        done = sum(row.status == "done" for row in ledger.rows.values())
        aside = len(ledger.quarantined())
    print(f"{output}: {len(waiting)} of {len(found.inputs)} recordings were to do; {done} done, {aside} in quarantine")
    if aside:
        print(f"  reasons   {output / 'quarantine.jsonl'}")
    return 1 if bad else 0


def _work(job: "ArchiveJob", ledger: "Ledger", waiting: "list[ArchiveInput]", *, settings: "EngineSettings") -> int:
    """Do what waits; return how many went into quarantine."""
    from marssep.separate.archive.engine import run_on_ray
    from marssep.separate.archive.work import clear_work

    clear_work(ledger.output)
    bad = 0
    with (
        contextlib.redirect_stdout(sys.stderr),  # where Ray says that a worker died
        _Progress(len(waiting)) as progress,
        contextlib.closing(run_on_ray(job, ledger.output, waiting, settings)) as rows,
    ):
        for row in rows:
            if row.status == "stopped":
                raise OutputError(f"{row.input}: {row.reason} Mend it, then run the same command again.")
            ledger.add(row)
            bad += row.status == "quarantined"
            progress.add(row)
    clear_work(ledger.output)
    return bad


class _Progress:
    """A bar on a terminal, a line every half minute elsewhere."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting workers", total=total)
        self._total, self._done, self._bad, self._seconds = total, 0, 0, 0.0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, row: "ArchiveRow") -> None:
        """Count a row."""
        self._done += 1
        self._bad += row.status == "quarantined"
        self._seconds += row.duration
        about = f"{self._seconds / 3600:.1f} h of audio, {self._bad} in quarantine"
        self._bar.update(self._task, advance=1, description=about)
        now = time.monotonic()
        if self._bar.disable and now - self._told > _EVERY:
            self._told = now
            left = (now - self._started) / self._done * (self._total - self._done) / 3600
            print(f"marssep: {self._done} of {self._total}, {about}, {left:.2f} h left", file=sys.stderr, flush=True)


def _tell(made: "Estimate", settings: "EngineSettings", *, price: float | None) -> None:
    workers = settings.workers or max(1, (os.cpu_count() or 1) // settings.threads)
    print(f"{made.files} recordings, {made.audio_hours:.2f} hours of audio (from {made.measured} that were measured)")
    print(f"  work      {made.worker_hours:.2f} hours of one worker, {made.hours(workers):.2f} hours of {workers}")
    print(f"  results   {made.output_gb:.2f} GB")
    if price is not None:
        print(f"  cost      {made.worker_hours * price:.2f} at {price:g} per worker and hour")
    if made.failing:
        print(f"  bad       {made.failing:.0%} of the measured files cannot be separated")


def _anywhere(model: str) -> str:
    """A model folder by its full path, because workers start elsewhere; a name stays a name."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model
