import numpy as np
import torch

from marssep.reward.exploration import explore_masks


def test_marginals_are_those_of_the_beta_policy():
    from scipy.stats import beta, kstest

    mask = torch.full((8, 8), 0.3)
    draws = explore_masks(mask, 400, rng=np.random.default_rng(0), blocks=8)
    first = draws[::2, 0, 0].numpy()  # without their antithetic partners
    assert kstest(first, beta(1 + 9 * 0.3, 1 + 9 * 0.7).cdf).pvalue > 0.01


def test_a_block_shares_its_quantile_and_pairs_are_antithetic():
    mask = torch.full((16, 16), 0.5)
    draws = explore_masks(mask, 4, rng=np.random.default_rng(1), blocks=2)
    assert all(len(draw.unique()) <= 4 for draw in draws)
    # at P = 1/2 the policy is symmetric, so partners lie on either side of the middle
    torch.testing.assert_close(draws[0] + draws[1], torch.ones(16, 16))
    torch.testing.assert_close(draws[2] + draws[3], torch.ones(16, 16))
    again = explore_masks(mask, 4, rng=np.random.default_rng(1), blocks=2)
    assert torch.equal(draws, again)


def test_odd_counts_and_grids_smaller_than_the_blocks():
    draws = explore_masks(torch.rand(5, 3), 3, rng=np.random.default_rng(2))
    assert draws.shape == (3, 5, 3)
    assert bool(((draws >= 0) & (draws <= 1)).all())


def test_a_larger_concentration_stays_closer():
    mask = torch.linspace(0, 1, 64).reshape(8, 8)
    far, near = (
        (explore_masks(mask, 32, rng=np.random.default_rng(3), concentration=k) - mask).abs().mean()
        for k in (3.0, 90.0)
    )
    assert near < far / 2
