"""Training batches: drawn by index, mixed and varied as spectra, reduced to the grid before they reach the network."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.utils.data import Dataset

from marssep.audio import resample
from marssep.corpus.mixing import MixtureSampler, MixtureSpec, QuerySpec, SourceSpec, render, render_source
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.model import normalise
from marssep.query import Modality, query_mixup
from marssep.spectral import Spectrogram
from marssep.train.losses import GridTargets
from marssep.train.settings import AugmentationSettings, QuerySettings, SupervisedSettings


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
class Batch:
    """One step's input.

    Attributes:
        query: embeddings of what is asked for.
        targets: what the right answers are; the network sees `targets.power`.
        labels: class of every query, by mixture.
    """

    query: Float[Tensor, "b q d"]
    targets: GridTargets
    labels: tuple[tuple[str, ...], ...]


class TrainingBatches(Dataset[Batch]):
    """Batch number k, the same whenever and wherever it is made.

    Args:
        corpus: recordings and pictures.
        bank: their embeddings.
        settings: of the whole run.
        parts: equal parts that a step's batch is made in, over processes and accumulation; batch number k is then part
            `k % parts` of step `k // parts`. Example for example the parts are the undivided batch.
    """

    def __init__(self, corpus: Corpus, bank: Embeddings, settings: SupervisedSettings, *, parts: int = 1) -> None:
        self.corpus, self.bank, self.settings, self.parts = corpus, bank, settings, parts
        # In training only the frames the network sees are computed.
        seen = settings.model.spectral
        step = {"hop_seconds": seen.step_seconds, "frames_per_step": 1}
        self.spectrogram = Spectrogram(seen.model_copy(update=step))
        self.scale = self.spectrogram.row_scale(settings.sample_rate)
        hop = self.spectrogram.hop_length(settings.sample_rate)
        self.n_samples = (settings.model.chunk_steps - 1) * hop
        duration = self.n_samples / settings.sample_rate
        self._captions = {item.label: item.captions for item in corpus.items}
        self.samplers = [
            MixtureSampler(corpus, split=split, settings=settings.mixing, duration=duration, seed=settings.seed)
            for split in settings.splits
        ]

    def __len__(self) -> int:
        return self.settings.steps * self.parts

    def __getitem__(self, index: int) -> Batch:
        size = self.settings.batch_size // self.parts
        rows = [self._example(index * size + row) for row in range(size)]
        *columns, labels = zip(*rows, strict=True)
        power, target, cross, query, present = (torch.stack(column) for column in columns)
        cell_weight = torch.where(self.scale > 0, 1.0 / self.scale.clamp_min(1e-12), 0.0)
        return Batch(query, GridTargets(power, target, cross, cell_weight / cell_weight.mean(), present), labels)

    def _example(self, index: int) -> tuple[Any, ...]:
        rng = np.random.default_rng((self.settings.seed, 1, index))
        sampler = self.samplers[index % len(self.samplers)]
        spec = sampler.draw(index)
        rendered = render(spec, self.corpus)
        silent = spec.background_db is None  # a row of zeros would cost as much as a sound
        waveforms = rendered.sources if silent else np.concatenate([rendered.sources, rendered.background[None]])
        if rng.random() < self.settings.augmentation.layer:
            k = int(rng.integers(len(spec.sources)))
            waveforms[k] += self._layer(sampler, spec.sources[k], rng)
        rate = self.settings.sample_rate
        if rate != CORPUS_RATE:
            waveforms = resample(waveforms, from_rate=CORPUS_RATE, to_rate=rate)
        spectra = self.spectrogram.stft(torch.from_numpy(waveforms[:, : self.n_samples]), rate)
        spectra = vary(spectra, rate, rng, self.settings.augmentation)
        mixture = functools.reduce(torch.add, spectra)  # ten times as fast as `sum` over the first axis
        asked = choose_queries(spec, rng, self.settings.queries)
        query = torch.stack([self._embed(query, rng) for query, _ in asked])
        targets = torch.stack([spectra[k] if k is not None else torch.zeros_like(mixture) for _, k in asked])
        powers = torch.cat([_inner(mixture, mixture)[None], _inner(targets, targets), _inner(targets, mixture)])
        grid = self.spectrogram.pool(powers, rate) * self.scale
        level = 10 ** (rng.normal(0.0, self.settings.augmentation.level_db) / 10)
        grid = grid * (normalise(grid[0]) * level)
        n = len(asked)
        present = torch.tensor([k is not None for _, k in asked])
        labels = tuple(query.label for query, _ in asked)
        return grid[0], grid[1 : 1 + n], grid[1 + n :], query, present, labels

    def _layer(self, sampler: MixtureSampler, source: SourceSpec, rng: np.random.Generator) -> np.ndarray:
        """Another recording of a source's class, up to as loud as the source."""
        second = sampler.draw_source(rng, source.label, first=False)
        second = dataclasses.replace(second, level_db=source.level_db - abs(second.level_db))
        return render_source(second, self.corpus, round(sampler.duration * CORPUS_RATE))

    def _embed(self, query: QuerySpec, rng: np.random.Generator) -> Tensor:
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
        return torch.from_numpy(embedding / np.linalg.norm(embedding))


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


def vary(
    spectra: Complex[Tensor, "s f t"], sample_rate: int, rng: np.random.Generator, settings: AugmentationSettings
) -> Complex[Tensor, "s f t"]:
    """Colour every source by a smooth random curve and sometimes cut the top of all."""
    if not settings.equaliser_db and not settings.band_limit:
        return spectra
    n_sources, n_bins, _ = spectra.shape
    frequency = np.linspace(0.0, sample_rate / 2, n_bins)
    position = np.log1p(frequency / 200.0) / np.log1p(sample_rate / 400.0)
    knots = np.linspace(0.0, 1.0, 6)
    curves = np.stack([np.interp(position, knots, rng.normal(0, 1, 6)) for _ in range(n_sources)])
    gain = 10 ** (settings.equaliser_db * curves / 20)
    if rng.random() < settings.band_limit:
        low, high = np.log(settings.band_limit_range)
        gain = gain * (frequency < np.exp(rng.uniform(low, high)))
    return spectra * torch.from_numpy(gain.astype(np.float32))[..., None]


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Real part of conj(left) * right."""
    return left.real * right.real + left.imag * right.imag
