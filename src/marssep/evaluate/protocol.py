"""The protocol: every mixture of a list, every kind of query, through the path that a user gets."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from marssep.corpus.lists import check_list, read_list
from marssep.corpus.mixing import MixtureSpec, QuerySpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError, ModelError, UsageError
from marssep.evaluate.baselines import BASELINES
from marssep.evaluate.path import separate_queries
from marssep.evaluate.queries import EmbeddedQueries, Progress, all_queries
from marssep.evaluate.results import ListRecord, Modality, ModelRecord, Results, System, write_text
from marssep.evaluate.scores import Score, signal_figures, write_scores
from marssep.evaluate.summary import Summary
from marssep.evaluate.table import markdown
from marssep.evaluate.versions import library_versions
from marssep.metrics import suppression_db
from marssep.metrics.bss import load_museval
from marssep.model import LoadedModel
from marssep.query import QueryEncoder
from marssep.settings import Settings


class EvaluateSettings(Settings):
    """What is measured and how surely."""

    modalities: tuple[Modality, ...] = ("text", "audio", "image", "composed")
    """Kinds of query; `composed` fuses all that a query has with the default weights and needs at least two."""
    baselines: tuple[System, ...] = ("mixture", "oracle_grid", "oracle_stft")
    """Rows beside the model; keys of `BASELINES`."""
    limit: int | None = None
    """Only the first so-many mixtures; a limited run is written under a name of its own."""
    bss_mixtures: int = 25
    """Mixtures, evenly spread over the list, on which museval runs too: it takes longer than the separation."""
    absent_level_db: float = 15.0
    """An absent sound's target must lie this far below the mixture to count as suppressed."""
    presence_threshold: float | None = None
    """Presence below which the sound is taken as absent; None takes the model's."""
    level: float = 0.95
    """Of the intervals."""
    resamples: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Of the bootstrap; nothing else is random."""
    jobs: int = 1
    """Mixtures separated at a time; it changes the wall time and no figure."""


class HasModel(Protocol):
    """What can be evaluated; `marssep.separate.Separator` is one."""

    @property
    def model(self) -> LoadedModel:
        """The network with its settings."""

    @property
    def encoder(self) -> QueryEncoder:
        """The query encoder that the network was trained with."""


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of an evaluation and the scores that they are made from."""

    results: Results
    scores: tuple[Score, ...]

    @property
    def topic(self) -> str:
        """Name of the files: the list's, and the limit if there was one."""
        limit = self.results.settings.get("limit")
        return self.results.mixtures.name if limit is None else f"{self.results.mixtures.name}-first{limit}"

    def write(self, output: str | os.PathLike[str], *, run_folder: str | os.PathLike[str]) -> Path:
        """Write `TOPIC.json` and `TOPIC.md` into `output`, and the per-item table `TOPIC.csv` into `run_folder`.

        Returns:
            The path of the JSON file.

        Raises:
            OutputError: if a folder cannot be written.
        """
        path = Path(output) / f"{self.topic}.json"
        write_scores(Path(run_folder) / f"{self.topic}.csv", self.scores)
        write_text(path.with_suffix(".md"), markdown(self.results))
        self.results.write(path)
        return path


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
        CorpusError: if there is no such list, or the corpus lacks items of it.
        ModelError: if the model gives numbers that are not finite.
        UsageError: if a setting is out of range, or museval is wanted and not installed.
    """
    started, settings = time.monotonic(), settings or EvaluateSettings()
    _check_settings(settings)
    if settings.bss_mixtures:
        load_museval()  # a missing library should be heard of now, not after the queries
    name, specs = _read(mixtures)
    specs = specs[: settings.limit]
    missing = check_list(specs, corpus)
    if missing or not specs:
        raise CorpusError(
            f"list '{name}' of {len(specs)} mixtures: {len(missing)} items are not in the corpus (first: "
            f"{missing[:3]}); build the corpus that the list was made for, or give all its folders."
        )
    queries = EmbeddedQueries(specs, separator.encoder, corpus, modalities=settings.modalities, progress=progress)
    scores = _score_all(_Scorer(separator, corpus, queries, settings), specs, progress=progress)
    summary = _summary(scores, separator.model, settings)
    results = Results(
        mixtures=_list_record(name, specs),
        model=_model_record(separator.model, model_name),
        settings=settings.model_dump(mode="json", exclude={"jobs"}) | {"presence_threshold": summary.threshold},
        versions=library_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(time.monotonic() - started, 2),
        systems=summary.systems(),
        paired=summary.paired(),
        presence=summary.presence(),
        classes=summary.classes(),
    )
    return Report(results, tuple(scores))


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Renders one mixture and scores everybody on it."""

    separator: HasModel
    corpus: Corpus
    queries: EmbeddedQueries
    settings: EvaluateSettings

    @torch.inference_mode()
    def scores(self, spec: MixtureSpec, with_bss: bool) -> list[Score]:
        rendered = render(spec, self.corpus)
        mixture, sources = torch.from_numpy(rendered.mixture), torch.from_numpy(rendered.sources)
        rows = []
        for system in self.settings.baselines:
            estimate = BASELINES[system](mixture, sources, self.separator.model.spectral, CORPUS_RATE)
            figures = signal_figures(estimate, sources, mixture, with_bss=with_bss)
            for index, fields in enumerate(figures):
                rows.append(self._score(spec, index, system=system, modality=None, fields=fields))
        for modality in self.settings.modalities:
            rows += self._of_model(spec, modality, mixture, sources, with_bss=with_bss)
        return rows

    def _of_model(
        self, spec: MixtureSpec, modality: Modality, mixture: Tensor, sources: Tensor, *, with_bss: bool
    ) -> list[Score]:
        asked = [
            (index, embedding)
            for index, query in enumerate(all_queries(spec))
            if (embedding := self.queries.embedding(query, modality)) is not None
        ]
        if not asked:
            return []
        embeddings = torch.stack([embedding for _, embedding in asked])
        ours = self.separator
        separated = separate_queries(ours.model, ours.encoder, mixture, CORPUS_RATE, queries=embeddings)
        estimate, presence = separated.targets, separated.presence
        if not estimate.isfinite().all():  # it would be left out of the means like an undefined score
            raise ModelError(f"mixture '{spec.id}' by {modality}: the model's output is not finite; train it again.")
        indices = [index for index, _ in asked]
        present = [index for index in indices if index < len(sources)]  # the absent one comes last
        figures = signal_figures(estimate[: len(present)], sources[present], mixture, with_bss=with_bss)
        if len(present) < len(indices):
            figures.append({"suppression_db": suppression_db(estimate[-1], mixture).item()})
        return [
            self._score(spec, index, system="model", modality=modality, fields=fields | {"presence": there})
            for index, fields, there in zip(indices, figures, presence, strict=True)
        ]

    def _score(
        self, spec: MixtureSpec, index: int, *, system: System, modality: Modality | None, fields: dict[str, float]
    ) -> Score:
        query: QuerySpec = all_queries(spec)[index]
        present = index < len(spec.sources)
        return Score(
            mixture=spec.id,
            query=index,
            present=present,
            label=query.label,
            group=self.corpus.by_id[spec.sources[index].item].group if present else "",
            system=system,
            modality=modality,
            **fields,
        )


def _score_all(scorer: _Scorer, specs: Sequence[MixtureSpec], *, progress: Progress | None) -> list[Score]:
    """Scores in the order of the list, however many threads make them (torch and scipy work outside Python's lock)."""
    n_bss = min(scorer.settings.bss_mixtures, len(specs))
    with_bss = {int(index) for index in np.linspace(0, len(specs) - 1, n_bss).round()}
    scores: list[Score] = []
    first, *rest = range(len(specs))
    with ThreadPoolExecutor(scorer.settings.jobs) as pool:
        # The first one alone: it decodes the corpus and fills the caches that the others share.
        scores += scorer.scores(specs[first], first in with_bss)
        for done, rows in enumerate(pool.map(lambda index: scorer.scores(specs[index], index in with_bss), rest)):
            scores += rows
            if progress is not None:
                progress("mixtures", done + 2, len(specs))
    return scores


def _summary(scores: Sequence[Score], model: LoadedModel, settings: EvaluateSettings) -> Summary:
    threshold = settings.presence_threshold
    return Summary(
        scores=scores,
        threshold=model.config.presence_threshold if threshold is None else threshold,
        attenuation_db=model.config.absent_attenuation_db,
        absent_level_db=settings.absent_level_db,
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _read(mixtures: str | os.PathLike[str] | Sequence[MixtureSpec]) -> tuple[str, list[MixtureSpec]]:
    if isinstance(mixtures, str | os.PathLike):
        return Path(mixtures).stem if Path(mixtures).suffix == ".jsonl" else str(mixtures), read_list(mixtures)
    return "mixtures", list(mixtures)


def _list_record(name: str, specs: Sequence[MixtureSpec]) -> ListRecord:
    digest = hashlib.sha256()
    for spec in specs:
        digest.update((json.dumps(dataclasses.asdict(spec), ensure_ascii=False) + "\n").encode())
    return ListRecord(
        name=name,
        sha256=digest.hexdigest(),
        n_mixtures=len(specs),
        n_present=sum(len(spec.queries) for spec in specs),
        n_absent=sum(spec.absent is not None for spec in specs),
    )


def _model_record(model: LoadedModel, name: str) -> ModelRecord:
    return ModelRecord(
        name=name,
        sha256=model.sha256,
        architecture=model.config.architecture,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        encoder=model.config.encoder,
    )


def _check_settings(settings: EvaluateSettings) -> None:
    for key, lowest in (("limit", 1), ("jobs", 1), ("resamples", 1), ("bss_mixtures", 0)):
        value = getattr(settings, key)
        if value is not None and value < lowest:
            raise UsageError(f"{key} = {value} is too small; give {lowest} or more.")
    unknown = [system for system in settings.baselines if system not in BASELINES]
    if unknown or not 0.0 < settings.level < 1.0:
        raise UsageError(
            f"baselines must be of {list(BASELINES)} and level in (0, 1); mend {unknown or settings.level}."
        )
