"""Who is scored: baselines that see the truth or nothing, and models that are asked, one mixture at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.evaluate.baselines import BASELINES
from marssep.evaluate.material import Rendered, Task, digest_of
from marssep.evaluate.path import separate_queries
from marssep.evaluate.queries import EmbeddedQueries, Progress
from marssep.evaluate.results import Modality
from marssep.metrics import is_silent
from marssep.model import LoadedModel, ModelConfig
from marssep.query import QueryEncoder
from marssep.spectral import Spectrogram
from marssep.spectral.adaptation import recipe


class HasModel(Protocol):
    """What can be evaluated; `marssep.separate.Separator` is one."""

    @property
    def model(self) -> LoadedModel:
        """The network with its settings."""

    @property
    def encoder(self) -> QueryEncoder:
        """The query encoder that the network was trained with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system gave for some of a mixture's queries, asked in one way.

    Attributes:
        modality: None for systems that see no query.
        indices: numbers of the queries; that of an absent sound follows those of the sources.
        estimate: one for each of them.
        presence: probability that each sound is there; NaN where the system does not say.
        loudest_db: level of each estimate relative to the mixture where that is highest, as far as a gate needs it.
    """

    modality: Modality | None
    indices: tuple[int, ...]
    estimate: Float[Tensor, "q n"]
    presence: tuple[float, ...]
    loudest_db: tuple[float, ...]

    @classmethod
    def ungated(cls, modality: Modality | None, indices: Sequence[int], estimate: Float[Tensor, "q n"]) -> "Answer":
        """Of a system that says nothing of presence."""
        unknown = (math.nan,) * len(indices)
        return cls(modality, tuple(indices), estimate, unknown, unknown)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be scored.

    Attributes:
        mixture: id of the mixture.
        query: number of the query; None if the whole mixture is meant.
        system: who failed; None if it concerns everybody.
        what: one clause that names the file or the setting.
    """

    mixture: str
    query: int | None
    system: str | None
    what: str


class System(Protocol):
    """A row of the tables."""

    @property
    def name(self) -> str:
        """Of its rows."""

    def identity(self, task: Task) -> str:
        """Changes whenever the answer for this mixture may change; a stored score is used again only if it is equal."""

    def prepare(self, tasks: Sequence[Task], *, jobs: int, progress: Progress | None) -> None:
        """Do what is done once for all mixtures, such as embedding their queries."""

    def answers(self, task: Task, rendered: Rendered) -> tuple[list[Answer], list[Problem]]:
        """Estimates for one mixture, finite and of its length; what is not is a problem instead."""


@dataclass(frozen=True)
class BaselineSystem:
    """A row of `BASELINES`.

    Attributes:
        name: key of the table.
        spectral: STFT and grid of the oracle masks: those of the first model.
    """

    name: str
    spectral: Spectrogram

    def identity(self, task: Task) -> str:
        """The STFT is all that a baseline depends on."""
        return digest_of(self.name, self.spectral.settings.model_dump(mode="json"))

    def prepare(self, tasks: Sequence[Task], *, jobs: int, progress: Progress | None) -> None:
        """Nothing."""

    def answers(self, task: Task, rendered: Rendered) -> tuple[list[Answer], list[Problem]]:
        """One estimate for each source; what else sounds is one more source, which nobody asks for."""
        baseline, sources = BASELINES[self.name], rendered.sources
        rest = rendered.mixture - sources.sum(0)
        if not is_silent(rest):  # a blind separation has to know how many parts there are
            sources = torch.cat([sources, rest[None]])
        estimate = baseline(rendered.mixture, sources, self.spectral, rendered.sample_rate)[: len(rendered.sources)]
        indices = tuple(range(len(rendered.sources)))
        return checked(self.name, task, Answer.ungated(None, indices, estimate))


_GATE = {"presence_threshold", "quiet_threshold", "quiet_db", "absent_attenuation_db"}
_NOT_IN_SCORES = _GATE | {name for name in ModelConfig.model_fields if name.startswith("second_")}


@dataclass(frozen=True)
class ModelSystem:
    """A model asked in every way that a query has.

    Attributes:
        name: of its rows.
        separator: what a user would call.
        queries: embeddings by the model's encoder; models of one encoder share them.
        modalities: kinds of query.
    """

    name: str
    separator: HasModel
    queries: EmbeddedQueries
    modalities: tuple[Modality, ...]

    def identity(self, task: Task) -> str:
        """All that decides an answer; not the gate, which stays open, and not the confidence of seconds."""
        model = self.separator.model
        config = model.config.model_dump(mode="json", exclude=_NOT_IN_SCORES)
        return digest_of("model", model.sha256, config, self.separator.encoder.fingerprint, recipe())

    def prepare(self, tasks: Sequence[Task], *, jobs: int, progress: Progress | None) -> None:
        """Embed the queries of these mixtures."""
        self.queries.add(tasks, jobs=jobs, progress=progress)

    def answers(self, task: Task, rendered: Rendered) -> tuple[list[Answer], list[Problem]]:
        """One answer for each kind of query that the mixture can be asked by, all from one pass over the mixture."""
        asked = [
            (modality, index, meant)
            for modality in self.modalities
            for index, query in enumerate(task.all_queries)
            if (meant := self.queries.asked(query, modality)) is not None
        ]
        if not asked:
            return [], []
        separated = separate_queries(
            self.separator.model,
            self.separator.encoder,
            rendered.mixture,
            rendered.sample_rate,
            queries=[meant for _, _, meant in asked],
        )
        answers: list[Answer] = []
        problems: list[Problem] = []
        for modality in self.modalities:
            rows = [row for row, (kind, _, _) in enumerate(asked) if kind == modality]
            if rows:
                indices = tuple(asked[row][1] for row in rows)
                presence, loudest = (
                    tuple(told[row] for row in rows) for told in (separated.presence, separated.loudest_db)
                )
                answer = Answer(modality, indices, separated.targets[rows], presence, loudest)
                sound, bad = checked(self.name, task, answer)
                answers += sound
                problems += bad
        return answers, problems


def checked(system: str, task: Task, answer: Answer) -> tuple[list[Answer], list[Problem]]:
    """An answer without the estimates that are not finite: as undefined scores they would vanish from the means."""
    finite = answer.estimate.isfinite().all(-1).tolist()
    by = f" by {answer.modality}" if answer.modality else ""
    problems = [
        Problem(task.id, index, system, f"the estimate{by} is not finite (NaN or infinite samples)")
        for index, good in zip(answer.indices, finite, strict=True)
        if not good
    ]
    if not problems:
        return [answer], []
    kept = [place for place, good in enumerate(finite) if good]
    indices = tuple(answer.indices[place] for place in kept)
    presence, loudest = (tuple(told[place] for place in kept) for told in (answer.presence, answer.loudest_db))
    sound = Answer(answer.modality, indices, answer.estimate[kept], presence, loudest)
    return ([sound] if kept else []), problems
