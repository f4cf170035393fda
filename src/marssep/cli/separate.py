"""`marssep separate`: get a sound out of recordings."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from marssep.cli.asking import QueryOptions
from marssep.cli.events import Event, JsonSpeaker, WordSpeaker
from marssep.cli.inputs import find_recordings
from marssep.errors import UsageError

_OUTPUT = Group("Output")
_RUN = Group("Many recordings")


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """Where results go.

    Attributes:
        output: Folder for the results; made if missing.
        template: Names below it, of {folder}, {name}, {query} and {part}.
        shares: Let the queries compete: all targets and one common residual add up to the recording.
        picture: Draw mixture, target, residual and mask as a PNG too.
        uncertainty: Draw into the picture how far the Beta policy would scatter the mask; docs/separation.md says what
            that is worth.
        as_json: Print what happens as JSON lines.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("separated")
    template: str = "{folder}/{name}.{query}.{part}"
    shares: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    picture: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    uncertainty: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False


@Parameter(name="*", group=_RUN)
@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    Attributes:
        jobs: Recordings at a time, each in a process with a model of its own.
        resume: Leave results alone that were made from the same input, model, query and settings.
        skip_existing: Leave results alone that have their names already.
    """

    jobs: int = 1
    resume: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    skip_existing: Annotated[bool, Parameter(negative=(), show_default=False)] = False


def separate(
    *inputs: Path,
    query: QueryOptions | None = None,
    out: OutputOptions | None = None,
    run: RunOptions | None = None,
    model: str = "default",
    gate: bool = True,
    adapt: bool = True,
) -> int:
    """Get a sound out of recordings: any length, rate, number of channels and format, from disk to disk.

    Writes NAME.QUERY.target.wav, NAME.QUERY.residual.wav (everything else) and NAME.QUERY.json for every recording.

    Args:
        inputs: Recordings, folders, or patterns such as 'takes/*.wav'.
        query: What is asked for.
        out: Where results go.
        run: How a run goes.
        model: A shipped model's name or a model folder.
        gate: Turn the target down when the sound seems to be absent.
        adapt: Learn from the recording itself what its sounds look like and where they come from.
    """
    query, out, run = query or QueryOptions(), out or OutputOptions(), run or RunOptions()
    if not inputs:
        raise UsageError("No recording was named; give at least one audio file.")
    if run.jobs < 1:
        raise UsageError(f"--jobs {run.jobs}: at least one process is needed.")
    queries = query.queries()
    from marssep.separate import FileSettings
    from marssep.separate.batch import Batch, Task
    from marssep.separate.naming import Naming

    naming = Naming(out.output, out.template)
    tasks = [
        Task(found.path, naming.paths(found.path, queries, below=found.below, shares=out.shares))
        for found in find_recordings(inputs, output=out.output)
    ]
    settings = FileSettings(
        gate=gate,
        adapt=adapt,
        shares=out.shares,
        picture=out.picture or out.uncertainty,
        uncertainty=out.uncertainty,
        resume=run.resume,
        skip_existing=run.skip_existing,
    )
    return _run(tasks, Batch(tuple(queries), settings), model, jobs=min(run.jobs, len(tasks)), as_json=out.as_json)


def _run(tasks: list[Any], batch: Any, model: str, *, jobs: int, as_json: bool) -> int:
    from marssep.separate import Separator
    from marssep.separate.asked import Asked
    from marssep.separate.batch import run_batch, run_parallel

    separator = Separator.load(model)
    # A query that cannot be used stops everything before the first recording is read.
    Asked.check(batch.queries, separator.encoder)
    begun = time.monotonic()
    over = 0
    counts = {"done": 0, "skipped": 0}
    failures: list[Event] = []

    with JsonSpeaker() if as_json else WordSpeaker(len(tasks)) as speaker:

        def emit(event: Event) -> None:
            nonlocal over
            if event["event"] in ("finished", "failed"):
                over += 1
                event = event | {"over": over, "recordings": len(tasks)}
            if event["event"] == "failed":
                failures.append({key: event[key] for key in ("input", "error")})
            if event["event"] == "done":
                counts["skipped" if event["skipped"] else "done"] += 1
            if event["event"] != "finished" or not as_json:
                speaker.tell(event)

        if jobs > 1:
            run_parallel(model, tasks, batch, emit, jobs=jobs)
        else:
            run_batch(separator, tasks, batch, emit)
        speaker.tell(
            {"event": "summary", "recordings": len(tasks), "results": counts["done"], "skipped": counts["skipped"]}
            | {"failed": len(failures), "failures": failures, "seconds": round(time.monotonic() - begun, 3)}
        )
    return 1 if failures else 0
