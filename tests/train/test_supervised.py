"""The supervised program: presets run, resume equals uninterrupted, Ctrl-C leaves a checkpoint, learning happens."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from marssep.corpus.store import Corpus
from marssep.errors import ModelError, OutputError, SettingsError
from marssep.model import load_model
from marssep.model.store import SHIPPED
from marssep.presets import load_preset, preset_names
from marssep.query.bank import EmbeddingBank
from marssep.train import supervised
from marssep.train.batches import TrainingBatches
from marssep.train.settings import OptimiserSettings, SupervisedSettings
from marssep.train.supervised import learning_rate_factor, train_supervised

SHRINK = {
    "smoke": [],
    "default": ["workers=0", "batch_size=2"],
    "large": ["workers=0", "batch_size=2"],
    "paper": ["workers=0", "batch_size=2"],
    "clipsep-nit": ["workers=0", "batch_size=2"],
}


def _run(
    corpus: Corpus, bank: EmbeddingBank, output: Path, *, resume: bool = False, overrides: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    settings = load_preset("smoke", overrides)
    train_supervised(settings, corpus=corpus, bank=bank, output=output, resume=resume, quiet=True)
    return load_file(output / "checkpoint" / "state.safetensors")


def test_every_preset_is_tested() -> None:
    assert SHRINK.keys() == {name for name in preset_names() if type(load_preset(name)) is SupervisedSettings}


@pytest.mark.parametrize("preset", SHRINK)
def test_every_preset_takes_two_steps(preset: str, corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    tiny = ["steps=2", "validation.lists=[]", 'model.encoder="tiny"', "model.query_dimension=16"]
    settings = load_preset(preset, [*SHRINK[preset], *tiny])
    progress = train_supervised(settings, corpus=corpus, bank=bank, output=tmp_path, quiet=True)
    assert progress.step == 2
    assert load_model(tmp_path / "last").config.architecture == settings.model.architecture
    assert json.loads((tmp_path / "settings.json").read_text())["steps"] == 2


def test_resumed_is_uninterrupted(
    corpus: Corpus, bank: EmbeddingBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("steps=12", "checkpoint_every_steps=5")
    whole = _run(corpus, bank, tmp_path / "whole", overrides=overrides)

    original = supervised.SupervisedRun._step

    def stopping(self: supervised.SupervisedRun, batch: object, progress: object) -> object:
        terms = original(self, batch, progress)
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 5:
            signal.raise_signal(signal.SIGINT)
        return terms

    monkeypatch.setattr(supervised.SupervisedRun, "_step", stopping)
    _run(corpus, bank, tmp_path / "parts", overrides=overrides)
    assert json.loads((tmp_path / "parts/checkpoint/progress.json").read_text())["step"] == 5
    monkeypatch.setattr(supervised.SupervisedRun, "_step", original)
    resumed = _run(corpus, bank, tmp_path / "parts", resume=True, overrides=overrides)
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_workers_make_the_same_batches(corpus: Corpus, bank: EmbeddingBank) -> None:
    batches = TrainingBatches(corpus, bank, load_preset("smoke"))
    first, again, other = batches[3], batches[3], batches[4]
    assert torch.equal(first.targets.power, again.targets.power)
    assert torch.equal(first.query, again.query)
    assert not torch.equal(first.targets.power, other.targets.power)


def test_the_network_learns(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    _run(corpus, bank, tmp_path, overrides=("steps=250", "optimiser.learning_rate=0.01"))
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.85 * losses[0], losses


def test_an_existing_run_is_not_overwritten(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    _run(corpus, bank, tmp_path, overrides=("steps=1",))
    with pytest.raises(OutputError, match="--resume"):
        _run(corpus, bank, tmp_path, overrides=("steps=1",))


def test_nothing_to_resume(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without --resume"):
        _run(corpus, bank, tmp_path, resume=True, overrides=("steps=1",))


def test_rate_warms_up_and_ends_at_the_final_fraction() -> None:
    settings = OptimiserSettings(warmup_steps=10, final_fraction=0.1)
    assert learning_rate_factor(settings, step=0, done=0.0) == pytest.approx(0.1)
    assert learning_rate_factor(settings, step=100, done=1.0) == pytest.approx(0.1)
    assert learning_rate_factor(settings, step=100, done=0.5) == pytest.approx(0.55)


def test_a_run_may_start_from_a_model(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    _run(corpus, bank, tmp_path / "first", overrides=("steps=4",))
    start = tmp_path / "first" / "last"
    # Without a step's worth of learning rate, the average of the second run is what it started from.
    still = (f'start="{start}"', "steps=1", "optimiser.learning_rate=0.0")
    state = _run(corpus, bank, tmp_path / "second", overrides=still)
    for key, value in load_file(start / "model.safetensors").items():
        if value.is_floating_point() and "running" not in key:
            torch.testing.assert_close(state[f"network.{key}"], value, rtol=0, atol=0)


def test_a_run_may_start_from_a_model_that_shares_fewer_levels(
    corpus: Corpus, bank: EmbeddingBank, tmp_path: Path
) -> None:
    _run(corpus, bank, tmp_path / "first", overrides=("steps=1",))
    start = tmp_path / "first" / "last"
    still = (f'start="{start}"', "steps=1", "optimiser.learning_rate=0.0", "model.network.shared=1")
    state = _run(corpus, bank, tmp_path / "second", overrides=still)
    before = load_file(start / "model.safetensors")
    for key in ("encoder.0.down.weight", "bottleneck.film.weight"):
        torch.testing.assert_close(state[f"network.{key}"], before[key], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.chunk_steps=64", None),
        ("model.spectral.n_bands=64", "spectral"),
        ("model.network={channels=[8, 8]}", "size"),
    ],
)
def test_a_start_of_another_shape_is_refused(
    change: str, sentence: str | None, corpus: Corpus, bank: EmbeddingBank, tmp_path: Path
) -> None:
    _run(corpus, bank, tmp_path / "first", overrides=("steps=1",))
    overrides = (f'start="{tmp_path / "first" / "last"}"', "steps=1", change)
    if sentence is None:
        _run(corpus, bank, tmp_path / "second", overrides=overrides)
        return
    with pytest.raises(SettingsError, match=sentence):
        _run(corpus, bank, tmp_path / "second", overrides=overrides)


def test_a_network_learns_of_a_teacher_what_the_truth_does_not_say(
    corpus: Corpus, bank: EmbeddingBank, tmp_path: Path
) -> None:
    _run(corpus, bank, tmp_path / "teacher", overrides=("steps=60", "optimiser.learning_rate=0.01"))
    teacher = tmp_path / "teacher" / "last"
    # Nothing but the teacher says what is right.
    pupil = (f'teacher="{teacher}"', "seed=3", "log_every_steps=1", "loss.cross_entropy=0", "loss.si_sdr=0")
    for name, rate in (("taught", 0.01), ("untaught", 0.0)):
        _run(corpus, bank, tmp_path / name, overrides=(*pupil, "steps=150", f"optimiser.learning_rate={rate}"))
    batch = TrainingBatches(corpus, bank, load_preset("smoke", ("seed=9",)))[0]
    masks = {
        name: torch.sigmoid(load_model(tmp_path / name / "last").network(batch.targets.power, batch.query).logits)
        for name in ("teacher", "taught", "untaught")
    }
    distance = {name: (masks[name] - masks["teacher"]).abs().mean() for name in ("taught", "untaught")}
    assert distance["taught"] < 0.5 * distance["untaught"], distance
    lines = [json.loads(line) for line in (tmp_path / "taught" / "journal.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(lines[0]["teacher"] + 0.1 * lines[0]["presence"], rel=1e-5)
    assert load_model(tmp_path / "taught" / "last").card["teacher"] == load_model(teacher).sha256


def test_a_teacher_with_other_ears_is_refused(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    _run(corpus, bank, tmp_path / "teacher", overrides=("steps=1",))
    other = (f'teacher="{tmp_path / "teacher" / "last"}"', "steps=1", "model.spectral.n_bands=64")
    with pytest.raises(SettingsError, match=r"teacher = .*that model has spectral"):
        _run(corpus, bank, tmp_path / "pupil", overrides=other)
    with pytest.raises(SettingsError, match="teacher"):
        load_preset("reinforce", ('teacher="small"',))


def test_noise_invariant_training_runs_and_wants_a_noise_mask_for_every_query(
    corpus: Corpus, bank: EmbeddingBank, tmp_path: Path
) -> None:
    unet = ('model.architecture="unet"', "model.network={width=4, n_maps=4, noise_masks=2}")
    still = _run(corpus, bank, tmp_path / "still", overrides=(*unet, "steps=3", "optimiser.learning_rate=0.0"))
    moved = _run(corpus, bank, tmp_path / "moved", overrides=(*unet, "steps=3"))
    for number in range(2):
        assert not torch.equal(moved[f"network.noise.{number}.weight"], still[f"network.noise.{number}.weight"])
    with pytest.raises(SettingsError, match="noise_masks = 2, but each mixture has 3 queries"):
        _run(corpus, bank, tmp_path / "wrong", overrides=(*unet, "steps=3", "queries.per_mixture=3"))


def test_a_card_says_nothing_of_the_machine(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> None:
    _run(corpus, bank, tmp_path / "first", overrides=("steps=1",))
    _run(corpus, bank, tmp_path / "second", overrides=("steps=1", f'start="{tmp_path / "first" / "last"}"'))
    assert load_model(tmp_path / "second" / "last").card["settings"]["start"] == "first/last"
    assert str(tmp_path) not in (tmp_path / "second" / "last" / "card.json").read_text()


def test_shipped_cards_say_nothing_of_a_machine() -> None:
    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                yield from strings(each)

    cards = list(SHIPPED.glob("**/*.json"))
    assert cards
    assert [text for card in cards for text in strings(json.loads(card.read_text())) if Path(text).is_absolute()] == []
