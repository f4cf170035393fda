"""The work of an evaluation: every system on every mixture, on all cores, stored as it goes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.mixing import QuerySpec
from marssep.errors import InputError
from marssep.evaluate.journal import Journal
from marssep.evaluate.material import Material, Rendered, Task, digest_of
from marssep.evaluate.queries import Progress
from marssep.evaluate.scores import Score
from marssep.evaluate.settings import EvaluateSettings
from marssep.evaluate.systems import Answer, Problem, System
from marssep.evaluate.versions import library_versions
from marssep.metrics import suppression_db

_FORMAT = 2  # of what a stored score means; a change measures everything again


class Scorer(Protocol):
    """A figure beyond the signal's own, such as how well an estimate fits the words it was asked by."""

    @property
    def identity(self) -> str:
        """Changes whenever its figures may change."""

    def figures(
        self,
        rendered: Rendered,
        estimate: Float[Tensor, "q n"],
        *,
        indices: Sequence[int],
        queries: Sequence[QuerySpec],
    ) -> Sequence[Mapping[str, float]]:
        """Fields of `Score` for estimates of the sources `indices`; safe from several threads."""


@dataclass(frozen=True, slots=True)
class Scored:
    """All scores in the order of the list and of the systems, and what could not be scored."""

    scores: tuple[Score, ...]
    problems: tuple[Problem, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Run:
    """One evaluation's work.

    Attributes:
        material: the mixtures.
        systems: the rows.
        settings: what is measured.
        journal: where scores are kept.
        scorers: figures beyond the signal's own.
    """

    material: Material
    systems: Sequence[System]
    settings: EvaluateSettings
    journal: Journal
    scorers: Sequence[Scorer] = ()

    def score(self, progress: Progress | None = None) -> Scored:
        """Measure what the journal does not hold yet, then gather everything in order.

        Raises:
            OutputError: if the journal cannot be written.
        """
        chosen = tuple(self.material.tasks[: self.settings.limit])
        tasks = [task for task in chosen if not task.missing]
        with_bss = self._with_bss(len(tasks))
        same = [library_versions(), [scorer.identity for scorer in self.scorers]]  # asked once: neither is cheap
        keys = [
            [self._key(system, task, place in with_bss, same) for system in self.systems]
            for place, task in enumerate(tasks)
        ]
        open_places = [place for place, row in enumerate(keys) if any(self.journal.get(key) is None for key in row)]
        broken: dict[int, Problem] = {}
        with one_thread_each():
            for number, system in enumerate(self.systems):
                wanted = [tasks[place] for place in open_places if self.journal.get(keys[place][number]) is None]
                system.prepare(wanted, jobs=self.settings.jobs, progress=progress)

            def work(place: int) -> None:
                try:
                    self._one(tasks[place], keys[place], with_bss=place in with_bss)
                except InputError as error:  # a file that cannot be read spoils its own mixture only
                    broken[place] = Problem(tasks[place].id, None, None, str(error))

            self._all(work, open_places, len(tasks), progress)
        return self._gather(chosen, tasks, keys, broken)

    def _all(self, work: "_Work", places: Sequence[int], total: int, progress: Progress | None) -> None:
        done = total - len(places)
        if progress is not None and done:
            progress("mixtures", done, total)
        with ThreadPoolExecutor(self.settings.jobs) as pool:
            waiting: set[Future[None]] = set()
            try:
                for number, place in enumerate(places):
                    waiting.add(pool.submit(work, place))
                    # The first one alone: it decodes the corpus and fills the caches that the others share. And never
                    # a long queue: whoever stops the run waits for the mixtures at work and no others.
                    while waiting and (number == 0 or number == len(places) - 1 or len(waiting) >= self.settings.jobs):
                        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        for future in finished:
                            future.result()
                            done += 1
                            if progress is not None:
                                progress("mixtures", done, total)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    @torch.inference_mode()
    def _one(self, task: Task, keys: Sequence[str], *, with_bss: bool) -> None:
        rendered = self.material.render(task)
        for system, key in zip(self.systems, keys, strict=True):
            if self.journal.get(key) is not None:
                continue
            answers, problems = system.answers(task, rendered)
            scores: list[Score] = []
            for answer in answers:
                scores += self._scores(system.name, task, rendered, answer, with_bss=with_bss)
            if with_bss and self.material.bss_on_all:
                problems = [*problems, *_unscored(scores)]
            self.journal.add(key, scores, problems)

    def _scores(self, system: str, task: Task, rendered: Rendered, answer: Answer, *, with_bss: bool) -> list[Score]:
        present = [place for place, index in enumerate(answer.indices) if index < len(task.queries)]
        indices = [answer.indices[place] for place in present]
        estimate = answer.estimate[present]
        figures = self.material.figures(rendered, estimate, indices=indices, with_bss=with_bss) if present else []
        for scorer in self.scorers if present else ():
            queries = [task.queries[index] for index in indices]
            more = scorer.figures(rendered, estimate, indices=indices, queries=queries)
            figures = [{**first, **second} for first, second in zip(figures, more, strict=True)]
        by_index = dict(zip(indices, figures, strict=True))
        rows = []
        for place, index in enumerate(answer.indices):
            fields = by_index.get(index)
            if fields is None:
                fields = {"suppression_db": suppression_db(answer.estimate[place], rendered.mixture).item()}
            rows.append(
                Score(
                    mixture=task.id,
                    query=index,
                    present=index < len(task.queries),
                    label=task.all_queries[index].label,
                    group=task.groups[index] if index < len(task.queries) else "",
                    system=system,
                    modality=answer.modality,
                    presence=answer.presence[place],
                    loudest_db=answer.loudest_db[place],
                    **fields,
                )
            )
        return rows

    def _with_bss(self, n: int) -> set[int]:
        if self.material.bss_on_all or self.settings.bss_mixtures is None:
            return set(range(n))
        wanted = min(self.settings.bss_mixtures, n)
        return {int(index) for index in np.linspace(0, n - 1, wanted).round()}

    def _key(self, system: System, task: Task, with_bss: bool, same: Sequence[object]) -> str:
        return digest_of(
            _FORMAT,
            same,
            system.name,
            system.identity(task),
            task.id,
            task.digest,
            self.settings.modalities,
            with_bss,
        )

    def _gather(
        self,
        chosen: Sequence[Task],
        tasks: Sequence[Task],
        keys: Sequence[Sequence[str]],
        broken: Mapping[int, Problem],
    ) -> Scored:
        scores: list[Score] = []
        problems = [
            Problem(task.id, None, None, f"not there: {', '.join(task.missing)}") for task in chosen if task.missing
        ]
        for place, task in enumerate(tasks):
            if place in broken:
                problems.append(broken[place])
                continue
            problems += self._absent_queries(task)
            for key in keys[place]:
                entry = self.journal.get(key)
                assert entry is not None  # every open place was worked on
                scores += entry[0]
                problems += entry[1]
        return Scored(tuple(scores), tuple(problems), tuple(chosen))

    def _absent_queries(self, task: Task) -> Iterator[Problem]:
        for index, query in enumerate(task.all_queries):
            for kind, key in (("recording", query.audio), ("picture", query.image)):
                if key and not self.material.has(key):
                    yield Problem(task.id, index, None, f"its query {kind} '{key}' is not there; not asked by it")


class _Work(Protocol):
    def __call__(self, place: int) -> None: ...


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Torch on one thread: jobs do not fight for cores, and no figure depends on how many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _unscored(scores: Sequence[Score]) -> Iterator[Problem]:
    for score in scores:
        if math.isnan(score.bss_sdr_db):
            by = f" by {score.modality}" if score.modality else ""
            yield Problem(
                score.mixture, score.query, score.system, f"target, rest or estimate{by} is silent: no BSS-eval figures"
            )
