"""What an evaluation is made on: mixtures that can be rendered, their queries, and the recordings they are asked by."""

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from marssep.corpus.mixing import MixtureSpec, QuerySpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.scores import signal_figures
from marssep.metrics.bss_batched import BssReference


@dataclass(frozen=True, slots=True)
class Task:
    """One mixture of a protocol and what is asked of it.

    Attributes:
        id: name within its list; no full stop in it, since file names of estimates are split there.
        queries: one for each source that is asked for, in the order of `Rendered.sources`.
        groups: group of each of these sources (`instrument`, `sound`, `speech`), empty where none is known.
        absent: a query for a sound that is not there, if any; it comes after the others.
        missing: names of files or items that the mixture cannot be made without and that are not there.
        digest: changes whenever mixture or queries may change.
    """

    id: str
    queries: tuple[QuerySpec, ...]
    groups: tuple[str, ...]
    absent: QuerySpec | None = None
    missing: tuple[str, ...] = ()
    digest: str = ""

    @property
    def all_queries(self) -> tuple[QuerySpec, ...]:
        """The queries for sources, then the one for an absent sound if there is one."""
        return self.queries if self.absent is None else (*self.queries, self.absent)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Waveforms of a task, one channel.

    Attributes:
        mixture: the recording.
        sources: the sounds that are asked for; the rest of the mixture is its difference to them.
        sample_rate: Hz.
        prepared: what scores make of the targets once for all systems, by keys of their own.
    """

    mixture: Float[Tensor, " n"]
    sources: Float[Tensor, "s n"]
    sample_rate: int
    prepared: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def figures(
        self, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """`signal_figures` of estimates of the sources `indices`."""
        reference, key = self.sources[list(indices)], ("bss", *indices)
        if with_bss and key not in self.prepared:  # solving for a target takes longer than scoring a system on it
            self.prepared[key] = BssReference(reference, self.mixture)
        return signal_figures(estimate, reference, self.mixture, bss=self.prepared[key] if with_bss else None)


class Material(Protocol):
    """A protocol's mixtures, whatever they are made from."""

    @property
    def name(self) -> str:
        """Of the list or protocol: the beginning of the names of files."""

    @property
    def tasks(self) -> Sequence[Task]:
        """All mixtures in their order."""

    @property
    def bss_on_all(self) -> bool:
        """Whether the protocol is defined by BSS-eval figures, so that every mixture needs them."""

    def checksum(self, limit: int | None) -> str:
        """Of the first so-many mixtures as they are listed, for the results file."""

    def render(self, task: Task) -> Rendered:
        """Waveforms of a mixture.

        Raises:
            InputError: if a file of it cannot be used.
        """

    def recordings(self, key: str) -> list[tuple[Float[np.ndarray, " n"], int]]:
        """Recordings of an audio query with their rates; several are averaged as embeddings."""

    def pictures(self, key: str) -> list[Image.Image]:
        """Pictures of an image query; several are averaged as embeddings."""

    def has(self, key: str) -> bool:
        """Whether a query's recording or picture is there."""

    def figures(
        self, rendered: Rendered, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """The signal fields of `Score` for estimates of the sources `indices`."""


@dataclass(frozen=True)
class ListMaterial:
    """A list of mixtures of a corpus.

    Attributes:
        name: of the list.
        specs: its mixtures.
        corpus: holds the recordings and pictures that the list names.
    """

    name: str
    specs: Sequence[MixtureSpec]
    corpus: Corpus
    bss_on_all: bool = False
    tasks: tuple[Task, ...] = field(init=False)
    _by_id: Mapping[str, MixtureSpec] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self._task(spec) for spec in self.specs))
        object.__setattr__(self, "_by_id", {spec.id: spec for spec in self.specs})

    def checksum(self, limit: int | None) -> str:
        """SHA-256 of the list's lines: that of the file if the whole list is used."""
        digest = hashlib.sha256()
        for spec in self.specs[:limit]:
            digest.update((json.dumps(dataclasses.asdict(spec), ensure_ascii=False) + "\n").encode())
        return digest.hexdigest()

    def render(self, task: Task) -> Rendered:
        """Waveforms of a mixture at `CORPUS_RATE`."""
        made = render(self._by_id[task.id], self.corpus)
        return Rendered(torch.from_numpy(made.mixture), torch.from_numpy(made.sources), CORPUS_RATE)

    def recordings(self, key: str) -> list[tuple[Float[np.ndarray, " n"], int]]:
        """The recording of that id."""
        return [(self.corpus.audio(key), CORPUS_RATE)]

    def pictures(self, key: str) -> list[Image.Image]:
        """The picture of that id."""
        return [self.corpus.image(key)]

    def has(self, key: str) -> bool:
        """Whether the corpus holds the item."""
        return key in self.corpus.by_id

    def figures(
        self, rendered: Rendered, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """As `signal_figures`."""
        return rendered.figures(estimate, indices=indices, with_bss=with_bss)

    def _task(self, spec: MixtureSpec) -> Task:
        known = self.corpus.by_id
        queries = spec.queries if spec.absent is None else (*spec.queries, spec.absent)
        named = [source.item for source in spec.sources]
        asked = [key for query in queries for key in (query.audio, query.image) if key]
        content = [known[key].sha256 if key in known else "" for key in (*named, *asked)]
        return Task(
            id=spec.id,
            queries=spec.queries,
            groups=tuple(known[key].group if key in known else "" for key in named),
            absent=spec.absent,
            missing=tuple(sorted({key for key in named if key not in known})),
            digest=digest_of(dataclasses.asdict(spec), content),
        )


def digest_of(*parts: object) -> str:
    """A short checksum of anything that JSON can write."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:32]
