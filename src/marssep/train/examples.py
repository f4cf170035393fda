"""Training examples as numbers: what is mixed, how it is varied and what is asked; drawn by index, rendered elsewhere.

Everything random of an example but the noise behind it is drawn here, so that rendering it in a worker process
(`train.batches`) or on the device (`train.device_batches`) gives the same mixture.
"""

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from marssep.corpus.mixing import MixtureSampler, MixtureSpec, QuerySpec, SourceSpec
from marssep.corpus.store import Corpus
from marssep.corpus.streaming import SourceWindows
from marssep.query import Modality, query_mixup
from marssep.train.settings import AugmentationSettings, QuerySettings, SupervisedSettings

KNOTS = 6
"""Of the random curve that colours a source, evenly spaced on `knot_position`."""


class Embeddings(Protocol):
    """Query embeddings by what they show; `query.bank.EmbeddingBank` is one."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What queries may be given by; words always are among them."""

    def text(self, caption: str) -> np.ndarray:
        """Embedding [d] of a caption."""

    def audio(self, item_id: str) -> np.ndarray:
        """Embeddings [k, d] of crops of a recording."""

    def image(self, item_id: str) -> np.ndarray:
        """Embeddings [k, d] of a picture."""


@dataclass(frozen=True, slots=True)
class Variation:
    """How an example's spectra are changed.

    Attributes:
        knots: [s, KNOTS] heights of every source's colouring curve, in standard deviations.
        limit: frequency above which all is cut, hertz; None for none.
    """

    knots: np.ndarray
    limit: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One mixture of a batch, before it is rendered.

    Attributes:
        spec: the mixture.
        layer: number of a source and another recording of its class that is added to it.
        variation: None leaves the spectra as they are.
        asked: queries with the index of their source, None for an absent sound.
        query: embeddings [q, d] of them, float32.
        level: factor of all powers, around 1.
    """

    spec: MixtureSpec
    layer: tuple[int, SourceSpec] | None
    variation: Variation | None
    asked: tuple[tuple[QuerySpec, int | None], ...]
    query: np.ndarray
    level: float

    @property
    def labels(self) -> tuple[str, ...]:
        """Class of every query."""
        return tuple(query.label for query, _ in self.asked)


class ExampleDrawer:
    """Example number k, the same whenever and wherever it is drawn.

    Args:
        corpus: recordings and pictures.
        bank: their embeddings.
        settings: of the whole run.
        duration: of a mixture, seconds.
    """

    def __init__(self, corpus: Corpus, bank: Embeddings, settings: SupervisedSettings, *, duration: float) -> None:
        self.bank, self.settings = bank, settings
        self._captions = {item.label: item.captions for item in corpus.items}
        self.samplers = [
            MixtureSampler(corpus, split=split, settings=settings.mixing, duration=duration, seed=settings.seed)
            for split in settings.splits
        ]
        self._windows: list[SourceWindows] = []
        if settings.streaming.shards:
            self._windows = [
                SourceWindows(sampler, corpus, settings.streaming, split=split, batch_size=settings.batch_size)
                for sampler, split in zip(self.samplers, settings.splits, strict=True)
            ]

    def draw(self, index: int) -> Example:
        """The example of an index."""
        rng = np.random.default_rng((self.settings.seed, 1, index))
        sampler = self._sampler(index)
        spec = sampler.draw(index)
        layer = None
        if rng.random() < self.settings.augmentation.layer:
            k = int(rng.integers(len(spec.sources)))
            layer = k, _layer(sampler, spec.sources[k], rng)
        # silence behind the sources is no source: a row of zeros would cost as much as a sound
        n_rows = len(spec.sources) + (spec.background_db is not None)
        variation = draw_variation(n_rows, rng, self.settings.augmentation)
        asked = tuple(choose_queries(spec, rng, self.settings.queries))
        query = np.stack([self._embed(query, rng) for query, _ in asked])
        level = 10 ** (rng.normal(0.0, self.settings.augmentation.level_db) / 10)
        return Example(spec, layer, variation, asked, query, level)

    def _sampler(self, index: int) -> MixtureSampler:
        split = index % len(self.samplers)
        return self._windows[split].sampler(index) if self._windows else self.samplers[split]

    def _embed(self, query: QuerySpec, rng: np.random.Generator) -> np.ndarray:
        settings = self.settings.queries
        captions = self._captions[query.label]
        found: dict[Modality, np.ndarray] = {"text": self.bank.text(captions[rng.integers(len(captions))])[None]}
        if query.audio and "audio" in self.bank.modalities:
            found["audio"] = self.bank.audio(query.audio)
        if query.image and "image" in self.bank.modalities:
            found["image"] = self.bank.image(query.image)
        vectors = {name: rows[rng.integers(len(rows))].astype(np.float32) for name, rows in found.items()}
        embedding = mix_query(vectors, rng, settings)
        noise = rng.standard_normal(len(embedding)).astype(np.float32)
        embedding = embedding + settings.noise * rng.random(dtype=np.float32) * noise / np.linalg.norm(noise)
        unit: np.ndarray = embedding / np.linalg.norm(embedding)
        return unit


def _layer(sampler: MixtureSampler, source: SourceSpec, rng: np.random.Generator) -> SourceSpec:
    """Another recording of a source's class, up to as loud as the source."""
    second = sampler.draw_source(rng, source.label, first=False)
    return dataclasses.replace(second, level_db=source.level_db - abs(second.level_db))


def mix_query(vectors: dict[Modality, np.ndarray], rng: np.random.Generator, settings: QuerySettings) -> np.ndarray:
    """One modality alone, or a random convex mix of all at hand."""
    draw = rng.random()
    for name, chance in settings.single.items():
        draw -= chance
        if draw < 0 and name in vectors:
            return vectors[name]
    return query_mixup(vectors, rng)


def choose_queries(
    spec: MixtureSpec, rng: np.random.Generator, settings: QuerySettings
) -> list[tuple[QuerySpec, int | None]]:
    """Queries of a mixture with the index of their source, None for an absent sound."""
    order = rng.permutation(len(spec.queries))
    asked: list[tuple[QuerySpec, int | None]] = [(spec.queries[k], int(k)) for k in order[: settings.per_mixture]]
    short = len(asked) < settings.per_mixture
    if spec.absent is not None and (short or rng.random() < settings.absent):
        asked = [*asked[: settings.per_mixture - 1], (spec.absent, None)]
    while len(asked) < settings.per_mixture:
        asked.append(asked[rng.integers(len(asked))])
    return asked


def draw_variation(n_rows: int, rng: np.random.Generator, settings: AugmentationSettings) -> Variation | None:
    """A smooth random colouring of every source, and sometimes a cut of the top of all."""
    if not settings.equaliser_db and not settings.band_limit:
        return None
    knots = np.stack([rng.normal(0, 1, KNOTS) for _ in range(n_rows)])
    limit = None
    if rng.random() < settings.band_limit:
        low, high = np.log(settings.band_limit_range)
        limit = float(np.exp(rng.uniform(low, high)))
    return Variation(knots, limit)


def knot_position(frequency: np.ndarray, sample_rate: int) -> np.ndarray:
    """Where frequencies (hertz) lie between the first knot (0) and the last (1), which is at half the rate."""
    return np.asarray(np.log1p(frequency / 200.0) / np.log1p(sample_rate / 400.0))
