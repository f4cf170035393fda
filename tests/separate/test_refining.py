"""Refining one recording by policy search: it climbs a reward without gradient and stays near when told to."""

import pytest
import torch

from marssep.reward.grid import GridRewards, GridRewardSettings, GridTruth
from marssep.reward.recogniser import Recogniser, RecogniserSettings
from marssep.separate.refining import RefineSettings, refine, refine_directly


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    generator = torch.Generator().manual_seed(3)
    sounds = torch.rand(60, 32, 24, generator=generator) * 0.1
    for row in range(60):
        sounds[row, (row % 2) * 16 : (row % 2) * 16 + 16] += 2.0
    return Recogniser.fit(sounds, ["low", "high"] * 30, RecogniserSettings(trees=30))


def _asked(label: int) -> GridTruth:
    """Low and high sound at once; one of them is asked for, and nothing else is known."""
    nothing = torch.zeros(1, 1, 32, 24)
    power = torch.ones(1, 32, 24)
    return GridTruth(power, nothing, nothing, torch.ones(32, 1), torch.zeros(1, 1, 4), torch.tensor([[label]]))


def _score(rewards: GridRewards, truth: GridTruth):
    return lambda masks: rewards(masks, truth).total


@pytest.mark.parametrize("name", ["low", "high"])
def test_the_recogniser_is_convinced_and_the_mask_leans_to_what_was_asked_for(recogniser, name):
    rewards = GridRewards(GridRewardSettings(weights={"recogniser": 1.0}), recogniser=recogniser)
    truth, logits = _asked(recogniser.number[name]), torch.zeros(1, 1, 32, 24)
    settings = RefineSettings(steps=30, blocks=4, reference_kl_coef=0.0)
    made = refine(logits, _score(rewards, truth), settings, power=truth.power)
    before, after = (float(rewards(torch.sigmoid(each)[:, :, None], truth).total) for each in (logits, made))
    assert after > before + 0.1
    low, high = float(made[0, 0, :16].mean()), float(made[0, 0, 16:].mean())
    assert (low > high) == (name == "low")
    same = refine(logits, _score(rewards, truth), settings, power=truth.power)
    assert torch.equal(made, same)


def test_a_strong_pull_to_the_first_policy_keeps_the_mask(recogniser):
    rewards = GridRewards(GridRewardSettings(weights={"recogniser": 1.0}), recogniser=recogniser)
    score, logits, power = _score(rewards, _asked(0)), torch.zeros(1, 1, 32, 24), _asked(0).power
    moved = [
        refine(logits, score, RefineSettings(blocks=4, reference_kl_coef=pull), power=power).std()
        for pull in (0.0, 100.0)
    ]
    assert moved[1] < 0.3 * moved[0]


def test_a_gradient_finds_what_it_can_see():
    truth = _asked(0)
    target = torch.zeros(1, 1, 32, 24)
    target[:, :, :16] = 1.0
    known = GridTruth(truth.power, target, target.clone(), truth.cell_weight, truth.name, truth.label)
    rewards = GridRewards(GridRewardSettings(weights={"si_sdr": 1.0}))
    settings = RefineSettings(blocks=4, concentration=9.0, learning_rate=0.2)
    made = refine_directly(torch.zeros(1, 1, 32, 24), _score(rewards, known), settings, power=known.power)
    assert float(made[0, 0, :14].mean()) > 0.5 > -0.5 > float(made[0, 0, 18:].mean())


def test_the_best_proposal_on_the_way_is_kept():
    """A reward that likes the start best, and of which the samples say nothing: the start stays."""
    logits = torch.zeros(1, 2, 16, 16)

    def score(masks):
        at_start = (masks == 0.5).all(dim=(3, 4)).float()
        return at_start + 0.01 * masks.mean(dim=(3, 4)) * torch.tensor([0.0, 1.0])[None, :, None]

    made = refine(logits, score, RefineSettings(steps=5, blocks=4), power=torch.ones(1, 16, 16))
    assert torch.equal(made, logits)
