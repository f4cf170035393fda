"""An evaluation from beginning to end: systems on the mixtures of a protocol, figures, and what is written down."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, UsageError
from marssep.evaluate.classical import load_librosa
from marssep.evaluate.estimates import FolderSystem
from marssep.evaluate.journal import Journal
from marssep.evaluate.keep import keep_audio
from marssep.evaluate.material import ListMaterial, Material
from marssep.evaluate.queries import EmbeddedQueries, Progress
from marssep.evaluate.results import MODEL, ListRecord, ModelRecord, ProblemRow, Results, write_text
from marssep.evaluate.running import Run, Scored, Scorer
from marssep.evaluate.scores import Score, write_scores
from marssep.evaluate.settings import EvaluateSettings, check_settings
from marssep.evaluate.summary import Summary
from marssep.evaluate.systems import BaselineSystem, HasModel, ModelSystem, Problem, System
from marssep.evaluate.table import markdown
from marssep.evaluate.versions import library_versions
from marssep.metrics.bss import load_museval
from marssep.separate.presence import Gate
from marssep.spectral import Spectrogram

__all__ = ["Contestants", "EvaluateSettings", "HasModel", "Report", "evaluate", "evaluate_all", "list_material"]


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of an evaluation and the scores that they are made from."""

    results: Results
    scores: tuple[Score, ...]

    @property
    def topic(self) -> str:
        """Name of the files: the list's, and the limit if there was one."""
        return topic_of(self.results.mixtures.name, self.results.settings.get("limit"))

    def write(self, output: str | os.PathLike[str], *, run_folder: str | os.PathLike[str]) -> Path:
        """Write `TOPIC.json` and `TOPIC.md` into `output`, and `results.json` and `scores.csv` into the run's folder.

        Args:
            output: folder of the figures that are kept.
            run_folder: folder of runs; this one's is `TOPIC` in it.

        Returns:
            The path of the JSON file in `output`.

        Raises:
            OutputError: if a folder cannot be written.
        """
        path, run = Path(output) / f"{self.topic}.json", Path(run_folder) / self.topic
        write_scores(run / "scores.csv", self.scores)
        self.results.write(run / "results.json")
        write_text(path.with_suffix(".md"), markdown(self.results))
        self.results.write(path)
        return path


@dataclass(frozen=True)
class Contestants:
    """Whom an evaluation compares, beside the baselines.

    Attributes:
        models: by name; the first one has the row `model`, the others rows of their own names.
        estimates: folders of anybody's outputs, by name.
        scorers: figures beyond the signal's own.
    """

    models: Mapping[str, HasModel] = field(default_factory=dict)
    estimates: Mapping[str, Path] = field(default_factory=dict)
    scorers: Sequence[Scorer] = ()

    def rows(self) -> dict[str, HasModel]:
        """Models by the names of their rows."""
        return {MODEL if place == 0 else name: model for place, (name, model) in enumerate(self.models.items())}


def evaluate(
    separator: HasModel,
    corpus: Corpus,
    *,
    mixtures: str | os.PathLike[str] | Sequence[MixtureSpec],
    settings: EvaluateSettings | None = None,
    model_name: str = "default",
    progress: Progress | None = None,
) -> Report:
    """Score a separator and the baselines on a list of mixtures.

    Args:
        separator: what a user would call.
        corpus: holds the recordings and pictures that the list names.
        mixtures: name or path of a list, or the mixtures themselves.
        settings: what is measured.
        model_name: how the report calls the model.
        progress: told of every query embedded and every mixture scored.

    Raises:
        CorpusError: if there is no such list, or the corpus can make none of its mixtures.
        UsageError: if a setting is out of range, or museval is wanted and not installed.
    """
    contestants = Contestants({model_name: separator})
    return evaluate_all(list_material(mixtures, corpus), contestants, settings=settings, progress=progress)


def evaluate_all(
    material: Material,
    contestants: Contestants,
    *,
    settings: EvaluateSettings | None = None,
    run_folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    protocol: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Score models, folders of estimates and baselines on the mixtures of a protocol.

    What cannot be scored is in the results' `problems`, and all the rest is scored.

    Args:
        material: the mixtures.
        contestants: whom to compare.
        settings: what is measured.
        run_folder: folder of runs; scores are kept in `TOPIC` in it while they are made, and kept audio lies there.
        resume: use what that folder holds of an earlier run.
        protocol: name of the protocol, for the results.
        progress: told of every query embedded and every mixture scored.

    Raises:
        CorpusError: if none of the mixtures can be made.
        InputError: if a folder of estimates is missing or empty.
        UsageError: if a setting is out of range, a name is used twice, or a library is wanted and missing.
        OutputError: if the run folder cannot be written.
    """
    started, settings = time.monotonic(), settings or EvaluateSettings()
    check_settings(settings)
    if material.bss_on_all:
        load_museval()  # a missing library should be heard of now, not after the queries
    if {"nmf", "hpss"} & set(settings.baselines):
        load_librosa()
    _check_some(material, settings)
    topic = topic_of(material.name, settings.limit)
    folder = None if run_folder is None else Path(run_folder) / topic
    systems = _systems(material, contestants, settings)
    with Journal(folder, fresh=not resume) as journal:
        run = Run(material, systems, settings, journal, contestants.scorers)
        scored = run.score(progress)
    results = _results(material, contestants, settings, scored, systems)
    results = results.model_copy(update={"protocol": protocol, "wall_seconds": round(time.monotonic() - started, 2)})
    if folder is not None and settings.keep_audio:
        keep_audio(folder, material, systems, scored, settings=settings)
    return Report(results, scored.scores)


def list_material(mixtures: str | os.PathLike[str] | Sequence[MixtureSpec], corpus: Corpus) -> ListMaterial:
    """A list of mixtures as material.

    Raises:
        CorpusError: if there is no such list.
    """
    if isinstance(mixtures, str | os.PathLike):
        name = Path(mixtures).stem if Path(mixtures).suffix == ".jsonl" else str(mixtures)
        return ListMaterial(name, read_list(mixtures), corpus)
    return ListMaterial("mixtures", list(mixtures), corpus)


def topic_of(name: str, limit: int | None) -> str:
    """Name of an evaluation's files and run folder."""
    return name if limit is None else f"{name}-first{limit}"


def _check_some(material: Material, settings: EvaluateSettings) -> None:
    chosen = material.tasks[: settings.limit]
    missing = sorted({name for task in chosen for name in task.missing})
    if all(task.missing for task in chosen):
        raise CorpusError(
            f"list '{material.name}' of {len(chosen)} mixtures: none can be made, {len(missing)} items are not in the "
            f"corpus (first: {missing[:3]}); build the corpus that the list was made for, or give all its folders."
        )


def _systems(material: Material, contestants: Contestants, settings: EvaluateSettings) -> list[System]:
    rows = contestants.rows()
    first = next(iter(rows.values()), None)
    spectral = first.model.spectral if first is not None else Spectrogram()
    tables: dict[str, EmbeddedQueries] = {}
    systems: list[System] = [BaselineSystem(name, spectral) for name in settings.baselines]
    for name, separator in rows.items():
        encoder = separator.encoder
        made = EmbeddedQueries(encoder, material, modalities=settings.modalities)
        queries = tables.setdefault(encoder.fingerprint, made)
        systems.append(ModelSystem(name, separator, queries, settings.modalities))
    systems += [FolderSystem(name, path) for name, path in contestants.estimates.items()]
    names = [system.name for system in systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{twice[0]}: two rows have this name; give one of them another with NAME=PATH.")
    return systems


def _results(
    material: Material, contestants: Contestants, settings: EvaluateSettings, scored: Scored, systems: Sequence[System]
) -> Results:
    names = list(contestants.models)
    rows = contestants.rows()
    summary = _summary(scored.scores, rows, settings)
    models = [_model_record(model, name, row) for name, (row, model) in zip(names, rows.items(), strict=True)]
    threshold = summary.gates[MODEL].threshold if MODEL in summary.gates else settings.presence_threshold
    problems = [*scored.problems, *_unknown_files(systems, material)]
    return Results(
        mixtures=_list_record(material, scored, settings.limit),
        model=models[0]
        if models
        else ModelRecord(name="none", sha256=None, architecture=None, parameters=None, encoder=None),
        settings=settings.model_dump(mode="json", exclude={"jobs", "keep_audio"}) | {"presence_threshold": threshold},
        versions=library_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=0.0,
        systems=summary.systems(),
        paired=summary.paired(),
        presence=summary.presence(),
        classes=summary.classes(),
        models=models,
        strata=summary.strata(settings.strata_db),
        comparisons=summary.comparisons(),
        problems=[ProblemRow(mixture=p.mixture, query=p.query, system=p.system, what=p.what) for p in problems],
    )


def _summary(scores: Sequence[Score], rows: Mapping[str, HasModel], settings: EvaluateSettings) -> Summary:
    gates = {}
    for name, separator in rows.items():
        gates[name] = Gate.of(separator.model.config, threshold=settings.presence_threshold)
    return Summary(
        scores=scores,
        gates=gates,
        absent_level_db=settings.absent_level_db,
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _unknown_files(systems: Sequence[System], material: Material) -> list[Problem]:
    """Files of estimates that belong to no mixture of the whole list: most likely misspelt."""
    problems = []
    for system in systems:
        if isinstance(system, FolderSystem):
            for name in system.unknown_files(material.tasks):
                problems.append(Problem("", None, system.name, f"{name}: belongs to no query of this list"))
    return problems


def _list_record(material: Material, scored: Scored, limit: int | None) -> ListRecord:
    return ListRecord(
        name=material.name,
        sha256=material.checksum(limit),
        n_mixtures=len(scored.tasks),
        n_present=sum(len(task.queries) for task in scored.tasks),
        n_absent=sum(task.absent is not None for task in scored.tasks),
    )


def _model_record(separator: HasModel, name: str, row: str) -> ModelRecord:
    model = separator.model
    return ModelRecord(
        name=name,
        row=row,
        sha256=model.sha256,
        architecture=model.config.architecture,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        encoder=model.config.encoder,
    )
