"""Exploration: marginals are the policy's whatever the cells share; partners are opposite; same seed, same masks."""

import pytest
import torch
from scipy import stats

from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.exploration import EXPLORATIONS, ExplorationSettings, explore, noise

KINDS = sorted(EXPLORATIONS)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_cell", [False, True])
def test_every_cell_is_beta_distributed(kind, per_cell):
    proposal = torch.tensor([0.0, 0.2, 0.5, 0.97])[:, None, None].expand(4, 6, 5)
    k = torch.tensor(9.0).expand(4, 6, 5) if per_cell else 9.0
    settings = ExplorationSettings(kind=kind, blocks=3, antithetic=False)
    policy = BetaMaskPolicy.around(proposal, k)
    drawn = torch.cat([explore(policy, 50, settings, generator=_generator(seed)) for seed in range(30)], dim=1)
    for row, p in enumerate((0.0, 0.2, 0.5, 0.97)):
        cell = drawn[row, :, 2, 3].double().numpy()
        # the table is within 0.002 of the quantile, far less than this test can see with 1,500 draws
        assert stats.kstest(cell, stats.beta(1 + 9 * p, 1 + 9 * (1 - p)).cdf).pvalue > 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_standard_normal_and_partners_are_opposite(kind):
    settings = ExplorationSettings(kind=kind, blocks=4, rank=3)
    field = noise(6, (200, 8, 8), settings, _generator())
    assert field.shape == (200, 6, 8, 8)
    assert torch.equal(field[:, 0::2], -field[:, 1::2])
    assert float(field[:, 0::2].mean()) == pytest.approx(0.0, abs=0.06)
    assert float(field[:, 0::2].std()) == pytest.approx(1.0, abs=0.06)


def test_an_odd_group_has_one_mask_without_partner():
    field = noise(3, (2, 4, 4), ExplorationSettings(blocks=2), _generator())
    assert field.shape == (2, 3, 4, 4)
    assert torch.equal(field[:, 0], -field[:, 1])
    assert not torch.equal(field[:, 2], -field[:, 0])


def test_cells_of_a_block_share_a_quantile_and_blocks_do_not():
    field = noise(1, (1, 16, 16), ExplorationSettings(blocks=4, antithetic=False), _generator(3))[0, 0]
    values = field.unique()
    assert 16 <= len(values) <= 16  # 4 x 4 blocks, rolled round the edges
    assert (field[:, None] == field[None]).all(-1).float().mean() > 1 / 16  # neighbouring rows agree within a block


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_tries_the_same_masks(kind):
    policy = BetaMaskPolicy.around(torch.rand(2, 3, 8, 8, generator=_generator(1)), 9.0)
    settings = ExplorationSettings(kind=kind, blocks=4)
    one, two, other = (explore(policy, 4, settings, generator=_generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1


def test_a_higher_concentration_stays_nearer_to_the_proposal():
    proposal = torch.full((1, 32, 32), 0.4)
    spreads = [
        explore(BetaMaskPolicy.around(proposal, k), 16, ExplorationSettings(), generator=_generator()).std()
        for k in (3.0, 9.0, 30.0)
    ]
    assert spreads[0] > spreads[1] > spreads[2]
