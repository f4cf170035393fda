"""Advantages: unmoved by shift and scale of the reward; what says nothing is left out; the paper's baseline."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.policy.advantage import AdvantageSettings, Baseline, block_advantages, group_advantages

SETTINGS = AdvantageSettings()


def _rewards(seed: int = 0, shape: tuple[int, ...] = (3, 2, 8)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.floats(-5, 5), st.floats(0.1, 20))
def test_shift_and_scale_of_the_reward_change_nothing(shift, scale):
    rewards, valid = _rewards(), torch.ones(3, 2, dtype=torch.bool)
    plain = group_advantages(rewards, SETTINGS, valid=valid)
    moved = group_advantages(shift + scale * rewards, SETTINGS, valid=valid)
    assert torch.allclose(plain.values, moved.values, atol=1e-3)
    blocks = _rewards(1, (3, 2, 8, 2, 2))
    one, two = (block_advantages(each, SETTINGS, valid=valid) for each in (blocks, shift + scale * blocks))
    assert torch.allclose(one.values, two.values, atol=1e-3)


def test_a_group_has_mean_0_and_spread_1():
    found = group_advantages(_rewards(), AdvantageSettings(limit=100.0), valid=torch.ones(3, 2, dtype=torch.bool))
    assert torch.allclose(found.values.mean(2), torch.zeros(3, 2), atol=1e-6)
    assert torch.allclose(found.values.std(2, correction=0), torch.ones(3, 2), atol=1e-4)


def test_groups_without_spread_and_queries_without_reward_are_left_out():
    rewards = _rewards()
    rewards[0, 0] = 0.25
    valid = torch.ones(3, 2, dtype=torch.bool)
    valid[1, 1] = False
    found = group_advantages(rewards, SETTINGS, valid=valid)
    assert found.kept.tolist() == [[False, True], [True, False], [True, True]]
    assert not found.values[0, 0].any()
    assert not found.values[1, 1].any()
    assert found.values[2].any()


def test_advantages_are_limited():
    rewards = torch.zeros(1, 1, 64)
    rewards[0, 0, 0] = 1.0
    found = group_advantages(rewards, SETTINGS, valid=torch.ones(1, 1, dtype=torch.bool))
    assert float(found.values.max()) == SETTINGS.limit


def test_blocks_share_the_scale_of_their_query():
    rewards = torch.zeros(1, 1, 2, 1, 2)
    rewards[0, 0, :, 0, 0] = torch.tensor([-1.0, 1.0])
    rewards[0, 0, :, 0, 1] = torch.tensor([-0.01, 0.01])
    found = block_advantages(rewards, AdvantageSettings(limit=100.0), valid=torch.ones(1, 1, dtype=torch.bool))
    assert float(found.values[0, 0, 1, 0, 0]) == pytest.approx(100 * float(found.values[0, 0, 1, 0, 1]), rel=1e-4)


def test_the_papers_baseline_is_a_moving_average_and_the_batch_is_standardised():
    baseline, valid = Baseline(), torch.ones(2, 1, dtype=torch.bool)
    settings = AdvantageSettings(kind="paper", ema=0.92)
    first = baseline.advantages(torch.tensor([[[0.0]], [[1.0]]]), settings, valid=valid)
    assert baseline.value == pytest.approx(0.5)
    assert first.values.flatten().tolist() == pytest.approx([-1, 1], abs=1e-3)
    baseline.advantages(torch.tensor([[[1.0]], [[1.0]]]), settings, valid=valid)
    assert baseline.value == pytest.approx(0.92 * 0.5 + 0.08)
    nothing = baseline.advantages(torch.ones(2, 1, 1), settings, valid=torch.zeros(2, 1, dtype=torch.bool))
    assert not nothing.values.any()
    assert not nothing.kept.any()
