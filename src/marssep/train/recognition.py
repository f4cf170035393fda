"""Fit the recogniser on clean recordings of a corpus."""

from collections.abc import Sequence

import numpy as np
import torch

from marssep.corpus.mixing import MixingSettings, MixtureSampler, render_source
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.reward.recogniser import Recogniser, RecogniserSettings
from marssep.spectral import SpectralSettings, Spectrogram

_DURATION = 4.08  # seconds: as the separator is trained
_BATCH = 64


def fit_recogniser(
    corpus: Corpus,
    spectral: SpectralSettings,
    *,
    settings: RecogniserSettings | None = None,
    splits: Sequence[str] = ("train",),
    per_label: int = 60,
    seed: int = 7,
) -> Recogniser:
    """Learn the labels of a corpus's splits from stretches of single recordings.

    Args:
        corpus: labelled recordings.
        spectral: grid they are heard on.
        settings: of the forest.
        splits: whose recordings are used.
        per_label: stretches per label, drawn with replacement where a label has few recordings.
        seed: of the stretches.
    """
    spectrogram = Spectrogram(spectral)
    rng = np.random.default_rng(seed)
    waves, labels, grids = [], [], []
    for split in splits:
        sampler = MixtureSampler(
            corpus, split=split, settings=MixingSettings(speed=0.06), duration=_DURATION, seed=seed
        )
        for label in sorted({item.label for item in corpus.select(kind="audio", split=split)}):
            for _ in range(per_label):
                source = sampler.draw_source(rng, label, first=True)
                waves.append(torch.from_numpy(render_source(source, corpus, round(_DURATION * CORPUS_RATE))))
                labels.append(label)
                if len(waves) == _BATCH:
                    grids.append(_grid(waves, spectrogram))
    if waves:
        grids.append(_grid(waves, spectrogram))
    return Recogniser.fit(torch.cat(grids), labels, settings or RecogniserSettings())


def _grid(waves: list[torch.Tensor], spectrogram: Spectrogram) -> torch.Tensor:
    power = spectrogram.to_grid(spectrogram.stft(torch.stack(waves), CORPUS_RATE), CORPUS_RATE)
    waves.clear()
    return power
