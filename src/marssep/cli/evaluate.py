"""`marssep evaluate`: score models, and anybody's outputs, on the mixtures of a protocol."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from marssep.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from marssep.evaluate.material import Material
    from marssep.evaluate.protocol import Contestants
    from marssep.evaluate.queries import Progress
    from marssep.evaluate.running import Scorer
    from marssep.evaluate.settings import EvaluateSettings

_OUTPUT = Group("Output")
_WHO = Group("Who is scored")
_RUN = Group("Run")
_LISTS = {name: f"open-{name}" for name in ("test", "val", "test-3", "val-3", "test-4", "val-4")}
_UNNAMED = {"best", "last"}  # folders inside a training run's: the run has the better name


@Parameter(name="*", group=_WHO)
@dataclass(frozen=True)
class WhoOptions:
    """Whom to compare, beside doing nothing and the oracle masks.

    Attributes:
        model: A shipped model's name or a model folder, or NAME=FOLDER (repeatable). The first has the row `model`.
        estimates: Folder of anybody's outputs, or NAME=FOLDER (repeatable): files MIXTURE.QUERY[.MODALITY].wav.
        baseline: Only these baselines (repeatable) instead of all: mixture, oracle_grid, oracle_stft,
            oracle_binary_grid, oracle_binary_stft, nmf, hpss.
    """

    model: Annotated[list[str] | None, Parameter(negative=())] = None
    estimates: Annotated[list[str] | None, Parameter(negative=())] = None
    baseline: Annotated[list[str] | None, Parameter(negative=())] = None


@Parameter(name="*", group=_RUN)
@dataclass(frozen=True)
class RunOptions:
    """How it is done.

    Attributes:
        limit: Only the first so-many mixtures; the files are then called LIST-firstN.
        jobs: Mixtures separated at a time; by default as many as there are cores. It changes no figure.
        resume: Use the scores that an earlier run of the same models and mixtures left in the run folder.
        semantic: Query encoder that also scores how well estimates fit words and target, such as `open`; slower.
        judge: Also let an independent network judge; slower, and needs `marssep models fetch judge`.
        strict: Fail (exit code 1) if anything could not be scored; the rest is scored and written all the same.
    """

    limit: int | None = None
    jobs: int | None = None
    resume: bool = True
    semantic: str | None = None
    judge: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    strict: Annotated[bool, Parameter(negative=(), show_default=False)] = False


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """Where figures and recordings go.

    Attributes:
        output: Folder for LIST.json (figures) and LIST.md (tables); made if missing.
        run_folder: Folder of runs: LIST/ in it gets results.json, scores.csv (a line for each query), items.jsonl.
        keep_audio: Keep the recordings of so-many queries, and of the model's best, median and worst, in LIST/audio.
        write_mixtures: Score nothing; write the mixtures and a table of the queries into this folder.
        as_json: Print the figures as JSON instead of the tables.
        quiet: Show no progress bar.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("results")
    run_folder: Path = Path("runs/evaluate")
    keep_audio: int = 0
    write_mixtures: Path | None = None
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False
    quiet: Annotated[bool, Parameter(negative=(), show_default=False)] = False


def evaluate(
    *,
    corpus: Annotated[list[Path] | None, Parameter(negative=())] = None,
    protocol: str | None = None,
    split: str | None = None,
    data: Path | None = None,
    who: WhoOptions | None = None,
    run: RunOptions | None = None,
    out: OutputOptions | None = None,
) -> None:
    """Score models on fixed mixtures, beside doing nothing and the oracle masks.

    Every mixture is asked by text, by example, by picture and by all together; figures come with 95 % bootstrap
    intervals over mixtures. A second run gives the same figures. What cannot be scored is reported item by item.

    Args:
        corpus: Folder with a manifest that the lists were made for (repeatable); see `marssep data build`.
        protocol: open-test, vggsound-clean+, music-clean+, esc50-mix, fuss, demand, musdb-like, open-val, esc10-val.
        split: A single list instead of a protocol: test, test-3, test-4, val, val-3, val-4, or a list by name or path.
        data: Folder of another corpus than ours, for the protocols that need one; see docs/evaluation.md.
        who: Whom to compare.
        run: How it is done.
        out: Where figures go.
    """
    who, run, out = who or WhoOptions(), run or RunOptions(), out or OutputOptions()
    from marssep.evaluate import markdown
    from marssep.evaluate.protocol import evaluate_all

    materials = _materials(corpus, protocol, split, data)
    if out.write_mixtures is not None:
        _write_mixtures(materials, out.write_mixtures, run, quiet=out.quiet)
        return
    contestants: Contestants | None = None
    problems = 0
    for material in materials:
        contestants = contestants or _contestants(who, run)
        settings = _settings(who, run, out)
        with _progress(quiet=out.quiet) as progress:
            report = evaluate_all(
                material,
                contestants,
                settings=settings,
                run_folder=out.run_folder,
                resume=run.resume,
                protocol=protocol,
                progress=progress,
            )
        path = report.write(out.output, run_folder=out.run_folder)
        found = len(report.results.problems)
        if found:
            print(f"marssep: {found} could not be scored, see 'problems' in {path}", file=sys.stderr)
        problems += found
        print(path.read_text(encoding="utf-8") if out.as_json else markdown(report.results, classes=False))
    if problems and run.strict:
        raise CorpusError(f"{problems} items could not be scored (--strict); the rest was, and is written.")


def _settings(who: WhoOptions, run: RunOptions, out: OutputOptions) -> "EvaluateSettings":
    from marssep.evaluate.settings import EvaluateSettings

    jobs = run.jobs if run.jobs is not None else os.cpu_count() or 1
    settings = EvaluateSettings(limit=run.limit, jobs=jobs, keep_audio=out.keep_audio)
    return settings if who.baseline is None else settings.model_copy(update={"baselines": tuple(who.baseline)})


def _materials(
    corpus: list[Path] | None, protocol: str | None, split: str | None, data: Path | None
) -> "Iterator[Material]":
    from marssep.corpus.store import Corpus
    from marssep.evaluate.protocol import list_material
    from marssep.evaluate.protocols import open_protocol

    if protocol is not None and split is not None:
        raise UsageError(f"--protocol {protocol} and --split {split}: give one of them.")
    ours: Corpus | None = Corpus.open(corpus) if corpus else None
    if protocol is not None:
        yield from open_protocol(protocol, data=data, corpus=ours)
        return
    if ours is None:
        raise UsageError("A list of mixtures needs the corpus that it was drawn from; name its folder with --corpus.")
    name = split or "test"
    yield list_material(_LISTS.get(name, name), ours)


def _contestants(who: WhoOptions, run: RunOptions) -> "Contestants":
    from marssep.evaluate.beyond import JudgeScorer, SemanticScorer
    from marssep.evaluate.judge import load_judge
    from marssep.evaluate.protocol import Contestants
    from marssep.query import load_encoder
    from marssep.separate import Separator

    chosen = who.model if who.model is not None else ([] if who.estimates else ["default"])
    models = {name: Separator.load(path) for name, path in _named(chosen).items()}
    folders = {name: Path(path) for name, path in _named(who.estimates or []).items()}
    scorers: list[Scorer] = [] if run.semantic is None else [SemanticScorer(load_encoder(run.semantic))]
    return Contestants(models, folders, [*scorers, JudgeScorer(load_judge())] if run.judge else scorers)


def _named(values: Sequence[str]) -> Mapping[str, str]:
    """NAME=PATH, or a path whose last part is the name: a report is read elsewhere, where paths mean nothing."""
    named: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals:
            path, name = value, Path(value).name
            if name in _UNNAMED and len(values) > 1:
                name = Path(value).absolute().parent.name
        if name in named:
            raise UsageError(f"{value}: two are called '{name}'; name one of them with NAME=PATH.")
        named[name] = path
    return named


def _write_mixtures(materials: "Iterator[Material]", folder: Path, run: RunOptions, *, quiet: bool) -> None:
    from marssep.evaluate.export import write_mixtures

    everything = list(materials)
    missing = []
    for material in everything:
        where = folder / material.name if len(everything) > 1 else folder
        with _progress(quiet=quiet) as progress:
            missing += write_mixtures(material, where, limit=run.limit, progress=progress)
        print(where)
    for id in missing:
        print(f"marssep: {id} could not be made: something it is made from is not there", file=sys.stderr)
    if missing and run.strict:
        raise CorpusError(f"{len(missing)} mixtures could not be made (--strict); the rest was.")


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
            bar.update(tasks[stage], completed=done, total=total)

        yield tell
