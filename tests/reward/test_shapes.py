import pytest
import torch

from marssep.errors import InputError, SettingsError, UsageError
from marssep.reward.shapes import REWARDS, RewardInputs, local_similarities, weighted_reward

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


@pytest.mark.parametrize("length", [1, 100, 20001])
@pytest.mark.parametrize("name", list(REWARDS))
def test_a_clip_of_any_length_earns_the_same_finite_reward_every_time(reward_encoder, waves, name, length):
    inputs = made_inputs(reward_encoder, torch.cat([waves, waves], dim=1)[:, :length].contiguous())
    rewards = [REWARDS[name](reward_encoder, inputs) for _ in range(2)]
    assert rewards[0].shape == (2,)
    assert bool(rewards[0].isfinite().all())
    assert torch.equal(*rewards)


@pytest.mark.parametrize("name", list(REWARDS))
def test_the_order_of_candidates_plays_no_part(reward_encoder, waves, name):
    inputs, order = made_inputs(reward_encoder, waves), torch.tensor([1, 0])
    fields = {key: getattr(inputs, key)[order] for key in ("estimate", "target", "mixture", "anchor", "rest_anchor")}
    turned = REWARDS[name](reward_encoder, RewardInputs(sample_rate=RATE, **fields))
    torch.testing.assert_close(turned, REWARDS[name](reward_encoder, inputs)[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["cosine", "si_sdr", "local_log_magnitude"])
def test_what_is_not_finite_earns_nothing_but_an_error(reward_encoder, waves, name):
    inputs = made_inputs(reward_encoder, waves)
    inputs.estimate[1, 3] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        weighted_reward(reward_encoder, inputs, {name: 1.0})


def test_local_similarities_are_the_local_rewards(reward_encoder, waves):
    inputs = made_inputs(reward_encoder, waves)
    alone = RewardInputs(
        waves[1:], inputs.target[:1], inputs.mixture[:1], RATE, inputs.anchor[:1], inputs.rest_anchor[:1]
    )
    wide = RewardInputs(
        waves[1:], *(wave.expand(2, -1) for wave in (alone.target, alone.mixture)), RATE, inputs.anchor, inputs.anchor
    )
    near = local_similarities(reward_encoder, alone)
    torch.testing.assert_close(near.to_target, REWARDS["local_cosine"](reward_encoder, wide))
    torch.testing.assert_close((near.to_target - near.to_rest) / 2, REWARDS["local_margin"](reward_encoder, wide))
