"""The Beta policy: exact against scipy and numerical integration, finite at both ends."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from marssep.policy.beta import EDGE, BetaMaskPolicy, ConcentrationHead, ConcentrationSettings, concentration_at

PROPOSALS = st.floats(0.0, 1.0)
CONCENTRATIONS = st.floats(0.5, 60.0)


def _pair(p: float, k: float):
    return BetaMaskPolicy.around(torch.tensor([p]), k), stats.beta(1 + k * p, 1 + k * (1 - p))


@given(PROPOSALS, CONCENTRATIONS, st.floats(0.001, 0.999))
def test_density_moments_and_entropy_are_those_of_scipy(p, k, mask):
    policy, exact = _pair(p, k)
    assert float(policy.log_prob(torch.tensor([mask]))) == pytest.approx(exact.logpdf(mask), abs=2e-4, rel=2e-5)
    assert float(policy.mean()) == pytest.approx(exact.mean(), abs=1e-6)
    assert float(policy.variance()) == pytest.approx(exact.var(), abs=1e-6)
    assert float(policy.entropy()) == pytest.approx(exact.entropy(), abs=3e-4)


@given(PROPOSALS, PROPOSALS, st.floats(2.0, 30.0), st.floats(2.0, 30.0))
def test_kl_is_its_integral(p, q, k, other_k):
    one, exact = _pair(p, k)
    two, other = _pair(q, other_k)
    integral = integrate.quad(
        lambda m: exact.pdf(m) * (exact.logpdf(m) - other.logpdf(m)), 1e-9, 1 - 1e-9, limit=200, points=[0.02, 0.98]
    )[0]
    assert float(one.kl(two)) == pytest.approx(integral, abs=2e-3)
    assert float(one.kl(one)) == pytest.approx(0.0, abs=1e-5)


def test_mode_is_the_proposal_and_the_peak_of_the_density():
    grid = torch.linspace(0.001, 0.999, 999)
    for p in (0.1, 0.5, 0.83):
        policy = BetaMaskPolicy.around(torch.tensor(p), 9.0)
        assert policy.mode() == pytest.approx(p)
        assert float(grid[policy.log_prob(grid).argmax()]) == pytest.approx(p, abs=1e-3)


def test_everything_is_finite_at_both_ends_and_so_are_the_slopes():
    proposal = torch.tensor([0.0, 1.0], requires_grad=True)
    policy = BetaMaskPolicy.around(proposal, 9.0)
    masks = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    other = BetaMaskPolicy.around(torch.tensor([1.0, 0.0]), 9.0)
    values = torch.stack([policy.log_prob(masks).sum(), policy.entropy().sum(), policy.kl(other).sum()])
    assert values.isfinite().all()
    values.sum().backward()
    assert proposal.grad.isfinite().all()


def test_samples_have_the_moments_of_the_distribution():
    policy = BetaMaskPolicy.around(torch.tensor([0.0, 0.3, 1.0]), 9.0)
    drawn = policy.sample(20000, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (20000, 3)
    assert torch.allclose(drawn.mean(0), policy.mean(), atol=0.004)
    assert torch.allclose(drawn.var(0), policy.variance(), atol=0.001)


def test_the_edge_is_far_below_what_a_mask_can_be_heard_to_do():
    assert 20 * np.log10(EDGE) <= -120


def test_an_annealed_concentration_moves_geometrically():
    settings = ConcentrationSettings(kind="annealed", value=4.0, final=64.0)
    assert [concentration_at(settings, done) for done in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([4, 16, 64, 64])
    assert concentration_at(ConcentrationSettings(value=7.0), 0.9) == 7.0


def test_a_predicted_concentration_starts_where_it_should_and_stays_within_its_bounds():
    settings = ConcentrationSettings(kind="predicted", value=9.0, bounds=(3.0, 30.0))
    head = ConcentrationHead(settings)
    features, logits = torch.randn(2, 16, 12), torch.randn(2, 3, 16, 12) * 5
    made = head(features, logits)
    assert made.shape == logits.shape
    assert torch.allclose(made, torch.tensor(9.0), rtol=1e-4)
    torch.nn.init.normal_(head.layers[-1].weight, std=50.0)
    moved = head(features, logits)
    assert moved.min() >= 3.0 - 1e-3
    assert moved.max() <= 30.0 + 1e-2
    assert moved.std() > 1
