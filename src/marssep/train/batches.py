"""Training batches: drawn by index, mixed and varied as spectra, reduced to the grid before they reach the network."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.utils.data import Dataset

from marssep.audio import resample
from marssep.corpus.mixing import render, render_source
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.model import normalise
from marssep.spectral import Spectrogram
from marssep.train.examples import KNOTS, Embeddings, Example, ExampleDrawer, Variation, knot_position
from marssep.train.losses import GridTargets
from marssep.train.settings import SupervisedSettings

_B = TypeVar("_B")


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


class TrainingGrid:
    """How long training mixtures are and what the network sees of them.

    Args:
        settings: of the whole run.
    """

    def __init__(self, settings: SupervisedSettings) -> None:
        # In training only the frames the network sees are computed.
        seen = settings.model.spectral
        step = {"hop_seconds": seen.step_seconds, "frames_per_step": 1}
        self.sample_rate = settings.sample_rate
        self.spectrogram = Spectrogram(seen.model_copy(update=step))
        self.scale = self.spectrogram.row_scale(self.sample_rate)
        cell_weight = self.spectrogram.row_bins(self.sample_rate)
        self.cell_weight = cell_weight / cell_weight.mean()
        self.n_samples = (settings.model.chunk_steps - 1) * self.spectrogram.hop_length(self.sample_rate)

    @property
    def duration(self) -> float:
        """Of a mixture, seconds."""
        return self.n_samples / self.sample_rate


class NumberedBatches(Dataset[_B]):
    """Batches by number, each of examples that its number decides.

    Args:
        corpus: recordings and pictures.
        bank: their embeddings.
        settings: of the whole run.
        parts: equal parts that a step's batch is made in, over processes and accumulation; batch number k is then part
            `k % parts` of step `k // parts`. Example for example the parts are the undivided batch.
    """

    def __init__(self, corpus: Corpus, bank: Embeddings, settings: SupervisedSettings, *, parts: int = 1) -> None:
        self.corpus, self.settings, self.parts = corpus, settings, parts
        self.grid = TrainingGrid(settings)
        self.drawer = ExampleDrawer(corpus, bank, settings, duration=self.grid.duration)

    def __len__(self) -> int:
        return self.settings.steps * self.parts

    def __getitem__(self, index: int) -> _B:
        size = self.settings.batch_size // self.parts
        return self.collate([self.drawer.draw(index * size + row) for row in range(size)])

    def collate(self, examples: Sequence[Example]) -> _B:
        """The batch of these examples."""
        raise NotImplementedError


class TrainingBatches(NumberedBatches[Batch]):
    """Batch number k, rendered here: the same whenever and wherever it is made."""

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Render, vary and pool them."""
        *columns, labels = zip(*map(self._render, examples), strict=True)
        power, target, cross, query, present = (torch.stack(column) for column in columns)
        return Batch(query, GridTargets(power, target, cross, self.grid.cell_weight, present), labels)

    def _render(self, example: Example) -> tuple[Any, ...]:
        rendered = render(example.spec, self.corpus)
        silent = example.spec.background_db is None
        waveforms = rendered.sources if silent else np.concatenate([rendered.sources, rendered.background[None]])
        if example.layer is not None:
            k, second = example.layer
            waveforms[k] += render_source(second, self.corpus, round(self.grid.duration * CORPUS_RATE))
        rate, spectrogram = self.grid.sample_rate, self.grid.spectrogram
        if rate != CORPUS_RATE:
            waveforms = resample(waveforms, from_rate=CORPUS_RATE, to_rate=rate)
        spectra = spectrogram.stft(torch.from_numpy(waveforms[:, : self.grid.n_samples]), rate)
        if example.variation is not None:
            spectra = vary(spectra, rate, example.variation, self.settings.augmentation.equaliser_db)
        mixture = functools.reduce(torch.add, spectra)  # ten times as fast as `sum` over the first axis
        targets = torch.stack([spectra[k] if k is not None else torch.zeros_like(mixture) for _, k in example.asked])
        powers = torch.cat([inner(mixture, mixture)[None], inner(targets, targets), inner(targets, mixture)])
        grid = spectrogram.pool(powers, rate) * self.grid.scale
        grid = grid * (normalise(grid[0]) * example.level)
        n = len(example.asked)
        present = torch.tensor([k is not None for _, k in example.asked])
        return grid[0], grid[1 : 1 + n], grid[1 + n :], torch.from_numpy(example.query), present, example.labels


def vary(
    spectra: Complex[Tensor, "s f t"], sample_rate: int, variation: Variation, equaliser_db: float
) -> Complex[Tensor, "s f t"]:
    """Colour every source by its curve, whose standard deviation is given in dB, and cut the top of all."""
    frequency = np.linspace(0.0, sample_rate / 2, spectra.shape[1])
    position, knots = knot_position(frequency, sample_rate), np.linspace(0.0, 1.0, KNOTS)
    curves = np.stack([np.interp(position, knots, heights) for heights in variation.knots])
    gain = 10 ** (equaliser_db * curves / 20)
    if variation.limit is not None:
        gain = gain * (frequency < variation.limit)
    return spectra * torch.from_numpy(gain.astype(np.float32))[..., None]


def inner(left: Tensor, right: Tensor) -> Tensor:
    """Real part of conj(left) * right."""
    return left.real * right.real + left.imag * right.imag
