"""`marssep study`: experiments with their controls, from training to intervals, in one command."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from marssep.evaluate.study.running import StudyParts

_NO_STUDY = "not the results of a study; run 'marssep study reinforce'"
app = App(name="study", help="Run an experiment with all its controls.")


@Parameter(name="*")
@dataclass(frozen=True)
class StudyOptions:
    """How much is run, and where the table goes.

    Attributes:
        seeds: Runs of every row.
        first_seed: Of the first run.
        test: Committed list that is reported.
        mixtures: Mixtures of it.
        student: Folder of the student; default: the package's.
        results: File for the table as JSON; default: OUTPUT/reinforcement.json.
        threads: CPU threads.
    """

    seeds: int = 3
    first_seed: int = 0
    test: str = "open-test"
    mixtures: int = 300
    student: Path | None = None
    results: Path | None = None
    threads: int = 1


@app.command
def reinforce(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    output: Path,
    variant: Annotated[list[str] | None, Parameter(name="--variant")] = None,
    overrides: Annotated[list[str] | None, Parameter(name="--set")] = None,
    options: StudyOptions | None = None,
) -> None:
    """Every variant of the reinforcement and every control, from one warm start; resumable row by row.

    Args:
        corpus: Folders with a manifest, with all splits.
        output: Folder for the training batches, the runs and the rows.
        variant: Only these rows (repeatable); default: all.
        overrides: Change one value of the preset for all rows.
        options: How much is run, and where the table goes.
    """
    import torch

    from marssep.evaluate.study import VARIANTS, StudyPlan, run_study, summarise
    from marssep.evaluate.study.variants import variant as by_name
    from marssep.presets import load_preset

    chosen = options or StudyOptions()
    torch.set_num_threads(chosen.threads)
    plan = StudyPlan(
        [by_name(name) for name in variant] if variant else VARIANTS,
        seeds=range(chosen.first_seed, chosen.first_seed + chosen.seeds),
        test=chosen.test,
        mixtures=chosen.mixtures,
        preset=" ".join(["reinforce", *(overrides or ())]),
        load=lambda changes: load_preset("reinforce", (*(overrides or ()), *changes)),
    )
    start = load_preset("reinforce").start or "small"
    parts = _parts(corpus, start, chosen.student)
    files = run_study(plan, parts, output, report=lambda line: print(line, flush=True))
    path = chosen.results or output / "reinforcement.json"
    _write(path, summarise(files))
    print(path)


def _parts(corpus: list[Path], start: str, student: Path | None) -> "StudyParts":
    from marssep.corpus.store import Corpus
    from marssep.evaluate.judging import load_listener
    from marssep.evaluate.study.bench import Ears
    from marssep.evaluate.study.running import StudyParts
    from marssep.model import load_model
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder
    from marssep.reward.encoder import SHIPPED
    from marssep.reward.student import GridStudent
    from marssep.train.recognition import fit_recogniser

    config = load_model(start).config
    recordings, encoder = Corpus.open(corpus), load_encoder(config.encoder)
    bank = EmbeddingBank.build(recordings, encoder, corpus[0].parent / ".features")
    ears = Ears(encoder, load_listener(), fit_recogniser(recordings, config.spectral))
    return StudyParts(recordings, bank, GridStudent.load(student or SHIPPED / "student"), ears)


def _read(path: Path) -> dict[str, Any]:
    import json

    from marssep.errors import InputError

    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_NO_STUDY} ({error}).") from None
    return found


def _write(path: Path, found: dict[str, Any]) -> None:
    import json

    from marssep.evaluate.results import write_text

    write_text(path, json.dumps(found, indent=1) + "\n")


@app.command
def questions(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    model: str = "small",
    test: str = "open-test",
    mixtures: int = 150,
    results: Path = Path("results/reinforcement-questions.json"),
    threads: int = 1,
) -> None:
    """Mode, mean or samples at inference; and which modality wins when two disagree.

    Args:
        corpus: Folders with a manifest, with all splits.
        model: A shipped model's name or a folder.
        test: Committed list.
        mixtures: Mixtures of it.
        results: File to write.
        threads: CPU threads.
    """
    import datetime
    import platform

    import torch

    from marssep.corpus.store import Corpus
    from marssep.evaluate.study.questions import Questions
    from marssep.model import load_model
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder

    torch.set_num_threads(threads)
    recordings, loaded = Corpus.open(corpus), load_model(model)
    encoder = load_encoder(loaded.config.encoder)
    bank = EmbeddingBank.build(recordings, encoder, corpus[0].parent / ".features")
    asked = Questions(loaded.network.eval(), loaded.spectral, recordings, bank)
    found = {
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": loaded.sha256,
        "list": test,
        "mixtures": mixtures,
        "inference": asked.inference(test, mixtures=mixtures, encoder=encoder),
        "conflicts": asked.conflicts(test, mixtures=mixtures),
    }
    _write(results, found)
    print(results)


@app.command
def report(
    results: Path = Path("results/reinforcement.json"),
    *,
    picture: Path | None = None,
    study: Path | None = None,
    add: bool = False,
) -> None:
    """Print the table of a study in Markdown.

    Args:
        results: What `marssep study reinforce` wrote.
        picture: Draw the differences into this PNG file, too.
        study: Output folder of a study, finished or not, whose rows are summed up into the results first.
        add: Keep the rows that the results have, and put those of the study beside them that they lack.
    """
    from marssep.errors import InputError, UsageError
    from marssep.evaluate.study import add_rows, summarise
    from marssep.evaluate.study.table import draw_study, study_table

    if add and study is None:
        raise UsageError("--add puts rows of a study beside those of the results; name its folder with --study.")
    if study is not None:
        rows = sorted((study / "rows").glob("*.json"))
        if not rows:
            raise InputError(f"{study}: no rows of a study there; run 'marssep study reinforce --output {study}'.")
        found = summarise(rows)
        _write(results, add_rows(_read(results), found) if add else found)
    found = _read(results)
    try:
        table = study_table(found)
    except KeyError as error:
        raise InputError(f"{results}: {_NO_STUDY} ({error}).") from None
    print(table, end="")
    if picture is not None:
        draw_study(found, picture)
