"""The reinforcement program: reward alone solves a world whose best mask is known; guard, resume and controls."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from marssep.corpus.lists import write_list
from marssep.corpus.mixing import MixingSettings, MixtureSampler
from marssep.corpus.store import Corpus
from marssep.errors import SettingsError
from marssep.model import build_network, load_model, save_model
from marssep.policy.advantage import AdvantageSettings, block_advantages, group_advantages
from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.exploration import ExplorationSettings, explore
from marssep.policy.surrogate import Rollout, SurrogateSettings, cell_weight, surrogate
from marssep.presets import load_preset, preset_names
from marssep.query.bank import EmbeddingBank
from marssep.reward import grid
from marssep.reward.grid import GridRewards, GridRewardSettings, GridTruth
from marssep.reward.student import GridStudent, StudentSettings
from marssep.train import reinforce
from marssep.train.credit import counterfactual_rewards
from marssep.train.recognition import fit_recogniser
from marssep.train.reinforce import RewardParts, train_reinforce
from marssep.train.reinforce_settings import ReinforceSettings

TINY = (
    'model.encoder="tiny"',
    "model.query_dimension=16",
    "model.chunk_steps=32",
    "model.network={channels=[8,12,16],query_channels=16}",
    "model.spectral={n_bands=32,max_frequency=8000.0}",
    "sample_rate=16000",
    "batch_size=3",
    "workers=0",
    "group_size=4",
    "exploration.blocks=4",
    "steps=4",
    "reward.weights={si_sdr=1.0}",
    "checkpoint_every_steps=2",
    "validation.every_steps=2",
    "probe_mixtures=3",
    "validation.mixtures=3",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = load_preset("reinforce", TINY)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("start")
    save_model(folder, build_network(settings.model), settings.model, card={})
    return folder


@pytest.fixture(scope="module")
def watched(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampler = MixtureSampler(corpus, split="val", settings=MixingSettings(background=0.0), duration=1.0, seed=5)
    path = tmp_path_factory.mktemp("list") / "made.jsonl"
    write_list(path, [sampler.draw(index, n_sources=2) for index in range(3)])
    return path


def _settings(start: Path, *changes: str, lists: str = "[]") -> ReinforceSettings:
    settings = load_preset("reinforce", (*TINY, f'start="{start}"', f"validation.lists={lists}", *changes))
    assert isinstance(settings, ReinforceSettings)
    return settings


@pytest.fixture
def train(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path) -> Callable[..., dict[str, torch.Tensor]]:
    def call(settings: ReinforceSettings, name: str = "run", *, resume: bool = False, **parts: object):
        output = tmp_path / name
        train_reinforce(
            settings, corpus=corpus, bank=bank, output=output, parts=RewardParts(**parts), resume=resume, quiet=True
        )
        return load_file(output / "checkpoint" / "state.safetensors")

    return call


def _two_tones() -> GridTruth:
    """The target sounds in the lower half of the grid, something else in the upper; the best mask is 1 and 0."""
    power, target = torch.zeros(1, 16, 16), torch.zeros(1, 1, 16, 16)
    power[:, 3], power[:, 12] = 4.0, 4.0
    target[:, :, 3] = 4.0
    return GridTruth(power, target, target.clone(), torch.ones(16, 1), torch.zeros(1, 1, 4), torch.zeros(1, 1).long())


@pytest.mark.parametrize("credit", ["group", "counterfactual"])
def test_a_two_tone_world_is_solved_from_the_reward_alone(credit):
    truth, rewards = _two_tones(), GridRewards(GridRewardSettings(weights={"si_sdr": 1.0}))
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.1)
    valid = torch.ones(1, 1, dtype=torch.bool)
    before = float(rewards(torch.sigmoid(logits.detach())[:, :, None], truth).total)
    for step in range(150):
        policy = BetaMaskPolicy.around(torch.sigmoid(logits), 9.0)
        old = policy.detach()
        masks = explore(old, 8, ExplorationSettings(blocks=4), generator=torch.Generator().manual_seed(step))
        total = rewards(masks, truth).total
        if credit == "group":
            found = group_advantages(total, AdvantageSettings(), valid=valid)
        else:
            blocks = counterfactual_rewards(rewards, total, masks, old.proposal, truth, blocks=4)
            found = block_advantages(blocks, AdvantageSettings(), valid=valid)
        wide = BetaMaskPolicy(old.proposal.unsqueeze(2), old.concentration)
        rollout = Rollout(masks, wide.log_prob(masks), found.values, found.kept, cell_weight(truth.power, energy=True))
        optimiser.zero_grad()
        surrogate(policy, rollout, SurrogateSettings(), old=old).loss.backward()
        optimiser.step()
    mask = torch.sigmoid(logits.detach())[0, 0]
    after = float(rewards(mask[None, None, None], truth).total)
    assert before == pytest.approx(0.0, abs=0.02)
    assert after > 0.55  # of 1, which stands for 30 dB
    assert float(mask[3].mean()) > 0.75 > 0.25 > float(mask[12].mean())


def test_the_same_seed_gives_the_same_curve_and_another_does_not(train, start):
    curves = [train(_settings(start, f"seed={seed}"), f"run{k}") for k, seed in enumerate((0, 0, 1))]
    assert all(torch.equal(curves[0][key], curves[1][key]) for key in curves[0])
    assert any(not torch.equal(curves[0][key], curves[2][key]) for key in curves[0] if key.startswith("network."))


@pytest.mark.parametrize("extra", [(), ('advantage.kind="paper"', "group_size=1"), ('concentration.kind="predicted"',)])
def test_a_resumed_run_is_an_uninterrupted_one(train, start, extra):
    whole = train(_settings(start, *extra), "whole")
    _same(whole, _interrupted(train, start, extra))


def _interrupted(train: Callable, start: Path, extra: tuple[str, ...]) -> dict[str, torch.Tensor]:
    original, calls = reinforce.ReinforceRun._step, []

    def stopping(self, batch, progress):
        figures = original(self, batch, progress)
        calls.append(1)
        self.stopping = len(calls) == 2
        return figures

    reinforce.ReinforceRun._step = stopping
    try:
        train(_settings(start, *extra), "halves")
    finally:
        reinforce.ReinforceRun._step = original
    return train(_settings(start, *extra), "halves", resume=True)


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    different = [key for key in one if not torch.equal(one[key], two[key])]
    assert not different


@pytest.mark.parametrize(
    "changes",
    [
        ('objective="supervised"',),
        ('objective="direct"',),
        ("minibatches=2", "surrogate.reference_kl_coef=0.1", "surrogate.kl_coef=0.1"),
        ('advantage.kind="local"', "advantage.blocks=4"),
        ('advantage.kind="counterfactual"', "advantage.blocks=2"),
        ('exploration.kind="low_rank"',),
        ('exploration.kind="independent"',),
        ('surrogate.ratio="block"', "surrogate.blocks=4"),
        ('surrogate.ratio="mask"',),
        ('concentration.kind="annealed"',),
    ],
)
def test_every_choice_moves_the_weights(train, start, changes, tmp_path):
    before = load_file(start / "model.safetensors")
    state = train(_settings(start, "steps=2", *changes))
    moved = [key for key, value in before.items() if not torch.equal(value, state[f"network.separator.{key}"])]
    assert moved
    assert not any("running" in key for key in moved)
    kept = load_model(tmp_path / "run" / "last")
    assert kept.config == load_model(start).config


def test_similarity_and_recogniser_are_rewards(train, start, corpus, tmp_path):
    shape = {"bands": 16, "segments": 8, "detail": 8, "dimension": 16, "exponent": 0.5, "max_frequency": 8000.0}
    student = GridStudent(None, StudentSettings(bands=16, segments=16, channels=(4, 8)), shape=shape)
    recogniser = fit_recogniser(corpus, _settings(start).model.spectral, per_label=4)
    weights = "reward.weights={cosine=1.0,margin=1.0,text=1.0,log_magnitude=1.0,recogniser=1.0}"
    train(_settings(start, weights, "steps=10"), student=student.eval(), recogniser=recogniser)
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    found = lines[-1]
    assert {"reward_cosine", "reward_recogniser", "approx_kl", "clip_fraction", "gradient_norm"} <= found.keys()
    parts = sum(value for key, value in found.items() if key.startswith("reward_"))
    assert found["reward"] == pytest.approx(parts, abs=1e-4)


def test_a_reward_that_can_be_hacked_trips_the_guard(train, start, watched, tmp_path, monkeypatch):
    honest = grid.GRID_REWARDS["si_sdr"]
    monkeypatch.setattr(grid, "GRID_REWARDS", {**grid.GRID_REWARDS, "si_sdr": lambda scored: -honest(scored)})

    def judge(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        return torch.nn.functional.normalize(waveform, dim=-1)

    changes = ("steps=60", "anchor_weight=0.0", "optimiser.learning_rate=5e-3", 'objective="direct"', "inner_epochs=4")
    settings = _settings(start, *changes, lists=f'["{watched}"]')
    train(settings, judge=judge)
    progress = json.loads((tmp_path / "run" / "checkpoint" / "progress.json").read_text())
    assert "hacked" in progress["stopped"]
    assert progress["step"] < 60
    notes = [line for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines() if "note" in line]
    assert len(notes) == 1
    assert "judge fell" in notes[0]


def test_the_programs_refuse_each_others_presets(marssep, tmp_path):
    for program, preset in (("supervised", "reinforce"), ("reinforce", "smoke")):
        ran = marssep("train", program, "--corpus", tmp_path, "--output", tmp_path / "out", "--preset", preset)
        assert ran.code == 2
        assert f"preset '{preset}'" in ran.err
        assert not (tmp_path / "out").exists()


def test_settings_that_contradict_each_other_are_refused(train, start):
    with pytest.raises(SettingsError, match="no gradient can pass the recogniser"):
        train(_settings(start, 'objective="direct"', "reward.weights={recogniser=1.0}"))
    with pytest.raises(SettingsError, match="draw at least 2"):
        train(_settings(start, "group_size=1"))
    with pytest.raises(SettingsError, match="needs the student"):
        train(_settings(start, "reward.weights={cosine=1.0}"), "other")
    with pytest.raises(SettingsError, match="goes on from a model"):
        train(load_preset("reinforce", TINY).model_copy(update={"start": None}), "none")
    with pytest.raises(SettingsError, match="accumulation > 1"):
        train(_settings(start, "accumulation=3"), "parts")


def test_a_student_of_other_frequencies_is_refused(train, start):
    shape = {"bands": 16, "segments": 8, "detail": 8, "dimension": 16, "exponent": 0.5}
    student = GridStudent(None, StudentSettings(bands=16, segments=16, channels=(4, 8)), shape=shape)
    with pytest.raises(
        SettingsError, match=r"end at 8000 Hz and bend at 700 Hz, but .* end at 16000 Hz and bend at 700 Hz"
    ):
        train(_settings(start, "reward.weights={cosine=1.0}"), student=student)


@pytest.mark.parametrize(
    "preset", [name for name in preset_names() if isinstance(load_preset(name), ReinforceSettings)]
)
def test_every_preset_takes_two_steps(train, start, preset, tmp_path):
    few = ("steps=2", "reward.weights={si_sdr=1.0}", f'start="{start}"', "validation.lists=[]")
    given = [change for change in TINY if not change.startswith(("group_size", "steps", "reward", "exploration"))]
    settings = load_preset(preset, (*given, *few))
    train(settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["group_size"] == load_preset(preset).group_size
    assert json.loads((tmp_path / "run" / "checkpoint" / "progress.json").read_text())["step"] == 2, lines
