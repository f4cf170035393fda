"""Many recordings: one after another or in several processes; one bad file does not stop the others."""

import contextlib
import dataclasses
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marssep.errors import CancelledError, MarssepError
from marssep.query import Query
from marssep.separate.files import FileJob, FileResult, FileSettings
from marssep.separate.naming import ResultPaths, describe_query
from marssep.separate.progress import Progress

if TYPE_CHECKING:
    from marssep.separate.separator import Separator

Emit = Callable[[dict[str, Any]], None]
"""Takes one event: a dict whose `event` is `start`, `progress`, `done`, `finished` or `failed`."""
_EVERY = 0.2  # seconds between looks at the workers' messages


@dataclass(frozen=True, slots=True)
class Task:
    """A recording of a batch and where its results go."""

    path: Path
    paths: tuple[ResultPaths, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked of every recording.

    Attributes:
        queries: what is asked for, all in one pass.
        settings: what to write and how.
    """

    queries: tuple[Query, ...]
    settings: FileSettings


def run_task(separator: "Separator", task: Task, batch: Batch, emit: Emit, *, stopped: Callable[[], bool]) -> None:
    """Separate one recording and tell what happens; what a person can mend becomes a `failed` event.

    Args:
        separator: model and encoder.
        task: the recording.
        batch: what is asked.
        emit: takes the events.
        stopped: asked on the way; True cancels.

    Raises:
        CancelledError: if it was stopped.
    """
    name = str(task.path)
    emit({"event": "start", "input": name})

    def watch(progress: Progress) -> bool:
        facts = dataclasses.asdict(progress)
        facts.pop("name")
        emit({"event": "progress", "input": name} | facts)
        return not stopped()

    try:
        results = FileJob(separator, task.path, batch.queries, task.paths, settings=batch.settings).run(watch)
    except CancelledError:
        raise
    except MarssepError as error:
        emit({"event": "failed", "input": name, "error": str(error)})
        return
    except (MemoryError, OSError) as error:
        emit({"event": "failed", "input": name, "error": f"{name}: {error or type(error).__name__}; try it by itself."})
        return
    for query, result in zip(batch.queries, results, strict=True):
        emit(_done(name, query, result))
    emit({"event": "finished", "input": name})


def run_batch(separator: "Separator", tasks: Sequence[Task], batch: Batch, emit: Emit) -> None:
    """One recording after another in this process."""
    for task in tasks:
        run_task(separator, task, batch, emit, stopped=lambda: False)


def run_parallel(model: str, tasks: Sequence[Task], batch: Batch, emit: Emit, *, jobs: int) -> None:
    """Several recordings at a time, each in a process with a model of its own; the processors are shared out.

    A process that dies (the system may kill it for memory) fails the recordings it and its fellows were at; the rest go
    on in new processes.

    Args:
        model: name or folder, loaded by every process.
        tasks: the recordings.
        batch: what is asked.
        emit: takes the events of all, from this process.
        jobs: processes at a time.
    """
    context = get_context("spawn")  # threads of torch do not survive a fork
    left = list(tasks)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    while left:
        messages, stop = context.Queue(), context.Event()
        begun: set[str] = set()
        over: set[str] = set()
        arguments = (model, threads, batch, messages, stop)
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=arguments) as pool:
            waiting = {pool.submit(_work, task): task for task in left}
            try:
                for event in _events(waiting, messages):
                    _note(event, begun, over)
                    emit(event)
            except BaseException:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if any(isinstance(future.exception(), BrokenProcessPool) for future in waiting):
            for name in sorted(begun - over):
                emit({"event": "failed", "input": name, "error": f"{name}: its process was ended; try fewer --jobs."})
            over |= begun
            if not begun:
                raise MarssepError("The worker processes cannot start; try it without --jobs.")
        _raise_faults(waiting)
        left = [task for task in left if str(task.path) not in over]


def _note(event: dict[str, Any], begun: set[str], over: set[str]) -> None:
    if event["event"] == "start":
        begun.add(event["input"])
    elif event["event"] in ("finished", "failed"):
        over.add(event["input"])


def _raise_faults(waiting: dict[Future[None], Task]) -> None:
    """What no worker should meet."""
    for future in waiting:
        error = future.exception()
        if error is not None and not isinstance(error, BrokenProcessPool):
            raise error


def _events(waiting: dict[Future[None], Task], messages: Any) -> Iterator[dict[str, Any]]:
    """What the workers say, until all have come to an end."""
    open_ = set(waiting)
    while open_:
        _, open_ = wait(open_, timeout=_EVERY, return_when=FIRST_COMPLETED)
        with contextlib.suppress(queue.Empty):
            while True:
                yield messages.get(timeout=0.0 if open_ else _EVERY)


_HERE: dict[str, Any] = {}  # of a worker process


def _begin(model: str, threads: int, batch: Batch, messages: Any, stop: Any) -> None:
    import torch

    from marssep.separate.separator import Separator

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us to stop
    torch.set_num_threads(threads)
    _HERE.update(separator=Separator.load(model), batch=batch, messages=messages, stop=stop)


def _work(task: Task) -> None:
    with contextlib.suppress(CancelledError):
        run_task(_HERE["separator"], task, _HERE["batch"], _HERE["messages"].put, stopped=_HERE["stop"].is_set)


def _done(name: str, query: Query, result: FileResult) -> dict[str, Any]:
    files = result.files
    row: dict[str, Any] = {"event": "done", "input": name, "skipped": result.skipped, "query": describe_query(query)}
    if result.row is not None:
        row |= {key: value for key, value in result.row.items() if key not in ("query", "input")}
    row |= {"target": str(files.target), "residual": str(files.residual), "sidecar": str(files.sidecar)}
    row["picture"] = str(files.picture) if files.picture else None
    return row
