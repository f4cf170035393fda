"""The clipped surrogate: plain policy gradient at the first step, flat outside the clip, same sums by another road."""

import pytest
import torch

from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.surrogate import Rollout, SurrogateSettings, cell_weight, surrogate

SHAPE = (2, 2, 3, 16, 16)  # b q g bands steps


def _world(seed: int = 0, *, blocks: int | None = None):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE[0], SHAPE[1], 16, 16, generator=generator, requires_grad=True)
    policy = BetaMaskPolicy.around(torch.sigmoid(logits), 9.0)
    masks = policy.sample(3, generator=generator).movedim(0, 2)
    old = policy.detach()
    before = BetaMaskPolicy(old.proposal.unsqueeze(2), old.concentration)
    shape = SHAPE[:3] if blocks is None else (*SHAPE[:3], blocks, blocks)
    rollout = Rollout(
        masks,
        before.log_prob(masks),
        torch.randn(shape, generator=generator),
        torch.ones(SHAPE[:2], dtype=torch.bool),
        cell_weight(torch.rand(SHAPE[0], 16, 16, generator=generator), energy=True),
    )
    return logits, policy, old, rollout


def _gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logits, retain_graph=True)[0]


@pytest.mark.parametrize(
    ("ratio", "blocks"), [("cell", None), ("cell", 8), ("block", None), ("block", 8), ("mask", None)]
)
def test_the_first_step_is_the_plain_policy_gradient(ratio, blocks):
    logits, policy, old, rollout = _world(blocks=blocks)
    terms = surrogate(policy, rollout, SurrogateSettings(ratio=ratio), old=old)
    assert float(terms.approx_kl) == pytest.approx(0.0, abs=1e-6)
    assert float(terms.clip_fraction) == 0.0
    assert float(terms.ratio_low) == pytest.approx(1.0, abs=1e-4) == pytest.approx(float(terms.ratio_high), abs=1e-4)
    advantages = rollout.advantages[..., None, None] if blocks is None else rollout.advantages
    if blocks is not None:
        advantages = advantages.repeat_interleave(2, -1).repeat_interleave(2, -2)
    log_prob = BetaMaskPolicy(policy.proposal.unsqueeze(2), policy.concentration).log_prob(rollout.masks)
    plain = -(log_prob * advantages * rollout.weight).mean()
    assert torch.allclose(_gradient(terms.loss, logits), _gradient(plain, logits), atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_outside_the_clip_range_nothing_pulls_any_further(sign):
    masks = torch.full((1, 1, 1, 4, 4), 0.7)
    # a policy that has already moved towards the mask (or away from it) by more than the clip range
    proposal = torch.full((1, 1, 4, 4), 0.7 if sign > 0 else 0.3, requires_grad=True)
    old = BetaMaskPolicy.around(torch.full((1, 1, 4, 4), 0.5), 9.0)
    before = BetaMaskPolicy(old.proposal.unsqueeze(2), old.concentration)
    rollout = Rollout(
        masks,
        before.log_prob(masks),
        torch.full((1, 1, 1), sign),
        torch.ones(1, 1, dtype=torch.bool),
        torch.ones(1, 1, 1, 4, 4),
    )
    terms = surrogate(BetaMaskPolicy.around(proposal, 9.0), rollout, SurrogateSettings(), old=old)
    assert float(terms.clip_fraction) == 1.0
    assert not _gradient(terms.loss, proposal).any()


def test_summed_ratios_leave_the_clip_range_at_once_and_averaged_ones_do_not():
    logits, _, old, rollout = _world()
    moved = BetaMaskPolicy.around(torch.sigmoid(logits + 0.05), 9.0)
    fractions = {
        reduction: float(
            surrogate(moved, rollout, SurrogateSettings(ratio="mask", reduction=reduction), old=old).clip_fraction
        )
        for reduction in ("mean", "sum")
    }
    assert fractions["mean"] == 0.0
    assert fractions["sum"] > 0.5


def test_groups_that_were_left_out_have_no_say():
    logits, policy, old, rollout = _world()
    kept = torch.tensor([[True, False], [True, True]])
    rollout = Rollout(rollout.masks, rollout.old_log_prob, rollout.advantages, kept, rollout.weight)
    gradient = _gradient(surrogate(policy, rollout, SurrogateSettings(), old=old).loss, logits)
    assert not gradient[0, 1].any()
    assert gradient[0, 0].any()


def test_entropy_pulls_to_one_half_and_kl_back_to_the_reference():
    logits, policy, old, rollout = _world()
    flat = Rollout(rollout.masks, rollout.old_log_prob, torch.zeros(SHAPE[:3]), rollout.kept, rollout.weight)
    blur = _gradient(surrogate(policy, flat, SurrogateSettings(entropy_coef=1.0), old=old).loss, logits)
    assert ((blur > 0) == (logits > 0)).float().mean() > 0.99
    reference = BetaMaskPolicy.around(torch.full_like(logits, 0.9), 9.0)
    settings = SurrogateSettings(reference_kl_coef=1.0)
    back = _gradient(surrogate(policy, flat, settings, old=old, reference=reference).loss, logits)
    assert ((back < 0) == (torch.sigmoid(logits) < 0.9)).float().mean() > 0.99


def test_silent_cells_weigh_nothing():
    power = torch.zeros(1, 4, 4)
    power[0, 0, 0] = 5.0
    weight = cell_weight(power, energy=True)[0, 0, 0]
    assert float(weight[0, 0]) == pytest.approx(16.0)
    assert float(weight.sum()) == pytest.approx(16.0)
    assert torch.equal(cell_weight(power, energy=False), torch.ones(1, 1, 1, 4, 4))
