import pytest
import torch

from marssep.errors import SettingsError, UsageError
from marssep.reward.shapes import REWARDS, RewardInputs, weighted_reward

RATE = 16000


def made_inputs(encoder, waves, estimate=None):
    target, mixture = waves[:2], waves[:2] + 0.7 * waves[2:]
    return RewardInputs(
        estimate=mixture if estimate is None else estimate,
        target=target,
        mixture=mixture,
        sample_rate=RATE,
        anchor=encoder.embed_audio(target, RATE),
        rest_anchor=encoder.embed_audio(mixture - target, RATE),
    )


@pytest.mark.parametrize("name", list(REWARDS))
def test_the_target_earns_more_than_the_mixture_and_the_mixture_more_than_the_rest(reward_encoder, waves, name):
    mixed = made_inputs(reward_encoder, waves)
    best = made_inputs(reward_encoder, waves, mixed.target)
    worst = made_inputs(reward_encoder, waves, mixed.mixture - mixed.target)
    rewards = [REWARDS[name](reward_encoder, inputs) for inputs in (best, mixed, worst)]
    assert bool((rewards[0] > rewards[1]).all())
    # the tiny encoder's first part is not trained, so only the signals must order the rest
    if "cosine" not in name and "margin" not in name:
        assert bool((rewards[1] >= rewards[2]).all())


@pytest.mark.parametrize("name", list(REWARDS))
@pytest.mark.parametrize("silent", ["estimate", "target"])
def test_silence_earns_a_finite_reward(reward_encoder, waves, name, silent):
    inputs = made_inputs(reward_encoder, waves)
    nothing = torch.zeros_like(inputs.target)
    anchor = reward_encoder.embed_audio(nothing, RATE) if silent == "target" else inputs.anchor
    fields = {
        "estimate": inputs.estimate,
        "target": inputs.target,
        "mixture": inputs.mixture,
        "sample_rate": RATE,
        "anchor": anchor,
        "rest_anchor": inputs.rest_anchor,
    }
    reward = REWARDS[name](reward_encoder, RewardInputs(**{**fields, silent: nothing}))
    assert bool(reward.isfinite().all())
    if name in {"cosine", "si_sdr"} and silent == "target":
        assert reward.abs().max() == 0


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_reward_has_a_slope(reward_encoder, waves, name):
    estimate = (waves[:2] + 0.3 * waves[1:]).requires_grad_()
    REWARDS[name](reward_encoder, made_inputs(reward_encoder, waves, estimate)).sum().backward()
    assert bool(estimate.grad.isfinite().all())
    assert estimate.grad.abs().max() > 0


def test_a_sum_is_the_sum_of_its_logged_parts(reward_encoder, waves):
    inputs = made_inputs(reward_encoder, waves)
    reward = weighted_reward(reward_encoder, inputs, {"cosine": 1.0, "si_sdr": 0.5})
    assert set(reward.components) == {"cosine", "si_sdr"}
    torch.testing.assert_close(reward.total, reward.components["cosine"] + 0.5 * reward.components["si_sdr"])


def test_unknown_rewards_and_unlike_waveforms_are_refused(reward_encoder, waves):
    inputs = made_inputs(reward_encoder, waves)
    with pytest.raises(SettingsError, match="loudness"):
        weighted_reward(reward_encoder, inputs, {"loudness": 1.0})
    with pytest.raises(SettingsError, match="at least one"):
        weighted_reward(reward_encoder, inputs, {})
    object.__setattr__(inputs, "estimate", inputs.mixture[:, :-1])  # the shape checks of tests would see it earlier
    with pytest.raises(UsageError, match="one shape"):
        weighted_reward(reward_encoder, inputs, {"cosine": 1.0})
