"""`marssep evaluate`: score a model on a fixed list of mixtures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from marssep.evaluate.queries import Progress

_OUTPUT = Group("Output")
_LISTS = {"test": "open-test", "val": "open-val", "test-3": "open-test-3"}


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """Where figures go.

    Attributes:
        output: Folder for LIST.json (figures) and LIST.md (tables); made if missing.
        run_folder: Folder for LIST.csv, one line for each query.
        as_json: Print the figures as JSON instead of the tables.
        quiet: Show no progress bar.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("results")
    run_folder: Path = Path("runs/evaluate")
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False
    quiet: Annotated[bool, Parameter(negative=(), show_default=False)] = False


def evaluate(
    *,
    corpus: Annotated[list[Path], Parameter(negative=())],
    split: str = "test",
    model: str = "default",
    out: OutputOptions | None = None,
    limit: int | None = None,
    jobs: int = 1,
) -> None:
    """Score a model on a fixed list of mixtures, beside doing nothing and the oracle masks.

    Every mixture is asked by text, by example, by picture and by all together; figures come with 95 % bootstrap
    intervals over mixtures. A second run gives the same figures.

    Args:
        corpus: Folder with a manifest that the list was made for (repeatable); see `marssep data build`.
        split: test, val, test-3, esc10-val, or the name or path of another list.
        model: A shipped model's name or a model folder.
        out: Where figures go.
        limit: Only the first so-many mixtures; the files are then called LIST-firstN.
        jobs: Mixtures separated at a time.
    """
    out = out or OutputOptions()
    from marssep.corpus.store import Corpus
    from marssep.evaluate import EvaluateSettings, markdown
    from marssep.evaluate import evaluate as run
    from marssep.separate import Separator

    settings = EvaluateSettings(limit=limit, jobs=jobs)
    separator = Separator.load(model)
    recordings = Corpus.open(corpus)
    with _progress(quiet=out.quiet) as progress:
        report = run(
            separator,
            recordings,
            mixtures=_LISTS.get(split, split),
            settings=settings,
            model_name=Path(model).name,  # a report is read elsewhere; the checksum says which model it was
            progress=progress,
        )
    path = report.write(out.output, run_folder=out.run_folder)
    print(path.read_text(encoding="utf-8") if out.as_json else markdown(report.results, classes=False))


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, refresh_per_second=2) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield tell
