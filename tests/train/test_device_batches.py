"""Mixing on the device: the mixtures of the workers, out of numbers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import coloured_noise
from marssep.corpus.store import Corpus
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.train.batches import Batch, TrainingBatches
from marssep.train.device_batches import DeviceMixer, DrawnBatches, Sounds
from marssep.train.settings import SupervisedSettings
from marssep.train.supervised import SupervisedRun, train_supervised

CPU = torch.device("cpu")
VARIED = (
    "mixing.speed=0.18",
    "augmentation.layer=0.5",
    "augmentation.equaliser_db=5.0",
    "augmentation.band_limit=0.5",
    "queries.absent=0.4",
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, EmbeddingBank]:
    folder = tmp_path_factory.mktemp("device")
    make_corpus(folder / "made")
    corpus = Corpus.open(folder / "made")
    return corpus, EmbeddingBank.build(corpus, load_encoder("tiny"), folder / "bank")


def both(parts: tuple[Corpus, EmbeddingBank], settings: SupervisedSettings, index: int) -> tuple[Batch, Batch]:
    """A batch of the workers and the same of the device."""
    sounds = Sounds.gather(parts[0], settings.splits, settings.sample_rate)
    drawn = DrawnBatches(*parts, settings, sounds)[index]
    return TrainingBatches(*parts, settings)[index], DeviceMixer(sounds, settings, CPU)(drawn)


@pytest.mark.parametrize("more", [("mixing.speed=0.0",), VARIED], ids=["plain", "varied"])
@pytest.mark.parametrize("index", [0, 7])
def test_is_the_batch_of_the_workers(parts: tuple[Corpus, EmbeddingBank], more: tuple[str, ...], index: int) -> None:
    ours, theirs = both(parts, load_preset("smoke", (*more, "sample_rate=32000", "mixing.background=0.0")), index)
    assert ours.labels == theirs.labels
    torch.testing.assert_close(ours.query, theirs.query)
    for field in dataclasses.fields(ours.targets):
        mine, other = (getattr(batch.targets, field.name) for batch in (ours, theirs))
        scale = ours.targets.power.amax(dim=(1, 2)).max() if mine.dtype.is_floating_point else 0.0
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=float(1e-5 * scale))


@pytest.mark.parametrize(
    ("more", "limit"),
    # played faster between samples that lie further apart, less of the treble is kept
    [(("mixing.speed=0.0", *VARIED[1:]), 0.003), (VARIED, 0.1)],
    ids=["plain", "faster"],
)
def test_at_another_rate_sounds_are_resampled_first(
    parts: tuple[Corpus, EmbeddingBank], more: tuple[str, ...], limit: float
) -> None:
    ours, theirs = both(parts, load_preset("smoke", (*more, "mixing.background=0.0")), 3)
    difference = (ours.targets.power.sqrt() - theirs.targets.power.sqrt()).norm()
    assert difference < limit * ours.targets.power.sqrt().norm()


def test_noise_follows_the_law_of_the_workers(parts: tuple[Corpus, EmbeddingBank]) -> None:
    settings = load_preset("smoke")
    mixer = DeviceMixer(Sounds.gather(parts[0], settings.splits, settings.sample_rate), settings, CPU)
    n = mixer.grid.n_samples
    assert torch.equal(mixer._noise(5), mixer._noise(5))
    ours = np.stack([mixer._noise(seed).numpy() for seed in range(1000)])
    theirs = np.stack([coloured_noise(n, np.random.default_rng(seed)) for seed in range(1000)])
    np.testing.assert_allclose(np.sqrt((ours**2).mean(1)), 1.0, rtol=1e-3)
    # share of the power below a sixteenth of the band: white has 1/16, brown nearly all
    shares = []
    for noise in (ours, theirs):
        power = np.abs(np.fft.rfft(noise)) ** 2
        shares.append(power[:, : n // 32].sum(1) / power.sum(1))
    np.testing.assert_allclose(
        np.quantile(shares[0], [0.1, 0.25, 0.75, 0.9]), np.quantile(shares[1], [0.1, 0.25, 0.75, 0.9]), atol=0.04
    )


def test_a_run_mixes_on_its_device_and_resumes(
    parts: tuple[Corpus, EmbeddingBank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_preset("smoke", ('mixing_on="device"', "steps=6", "log_every_steps=1", 'precision="no"'))

    def run(name: str, resume: bool = False) -> list[float]:
        train_supervised(settings, corpus=parts[0], bank=parts[1], output=tmp_path / name, resume=resume, quiet=True)
        lines = (tmp_path / name / "journal.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    whole = run("whole")
    original = SupervisedRun._step

    def stopping(self: SupervisedRun, *given: Any) -> Any:
        self.stopping = given[1].step == 2
        return original(self, *given)

    monkeypatch.setattr(SupervisedRun, "_step", stopping)
    assert len(run("halves")) == 3
    monkeypatch.setattr(SupervisedRun, "_step", original)
    assert run("halves", resume=True) == whole
