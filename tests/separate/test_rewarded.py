"""Refining a separation by a reward of one's own: it rises, the parts still add up, nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from marssep import Separator
from marssep.errors import UsageError
from marssep.separate.refining import RefineSettings
from marssep.separate.rewarded import LONGEST

RATE = 16000
SHORT = RefineSettings(steps=12, group_size=8, blocks=4, reference_kl_coef=0.0)


@pytest.fixture(scope="module")
def separation(tiny_model):
    """Two tones, one in each channel and half, and what an untrained network makes of them."""
    time = np.arange(2 * RATE) / RATE
    low, high = np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 3000 * time)
    waveform = 0.2 * np.stack([low + high, low + 0.5 * high]).astype(np.float32)
    return Separator.load(tiny_model).separate((waveform, RATE), text="dog")


def share_of_low(candidates, rate):
    """In twenty steps: no slope anywhere."""
    spectrum = np.abs(np.fft.rfft(candidates.mean(1), axis=-1)) ** 2
    below = np.fft.rfftfreq(candidates.shape[-1], 1 / rate) < 1000
    return np.floor(20 * spectrum[:, below].sum(-1) / spectrum.sum(-1))


def test_what_the_reward_likes_comes_out(separation):
    made = separation.refine(share_of_low, settings=SHORT)
    before, after = (share_of_low(each.target[None], RATE)[0] for each in (separation, made))
    assert after >= before + 2
    np.testing.assert_allclose(made.target + made.residual, separation.mixture, atol=1e-6)
    assert made.grid_mask.shape == separation.grid_mask.shape
    assert (made.presence, made.present) == (separation.presence, separation.present)
    again = separation.refine(share_of_low, settings=SHORT)
    assert np.array_equal(made.target, again.target)


def test_a_reward_that_says_nothing_changes_nothing(separation):
    made = separation.refine(lambda candidates, rate: [1.0] * len(candidates), settings=SHORT)
    assert np.array_equal(made.target, separation.target)
    assert np.array_equal(made.residual, separation.residual)


@pytest.mark.parametrize("adapt", [True, False])
def test_the_first_that_is_heard_is_what_is_there(tiny_model, separation, adapt):
    made = Separator.load(tiny_model).separate((separation.mixture, RATE), text="dog", gate=False, adapt=adapt)
    heard = []

    def reward(candidates, rate):
        heard.extend(candidates)
        return [0.0] * len(candidates)

    made.refine(reward, settings=SHORT)
    np.testing.assert_allclose(heard[0], made.target, atol=1e-6)


def test_what_was_turned_down_stays_so(separation):
    quiet = replace(
        separation,
        target=separation.target * np.float32(0.01),
        residual=separation.mixture - separation.target * np.float32(0.01),
        provenance=replace(separation.provenance, attenuated_db=40.0 + separation.provenance.attenuated_db),
    )
    loud = separation.refine(share_of_low, settings=SHORT)
    np.testing.assert_allclose(quiet.refine(share_of_low, settings=SHORT).target, 0.01 * loud.target, atol=1e-6)


def test_the_sidecar_says_so(separation, tmp_path):
    files = separation.refine(share_of_low, settings=SHORT).save(tmp_path)
    assert json.loads(files.sidecar.read_text())["settings"]["refined"]["steps"] == SHORT.steps


@pytest.mark.parametrize("given", [[0.0], [[0.0]] * 9, [float("nan")] * 9, 1.0])
def test_what_is_no_reward_is_refused(separation, given):
    with pytest.raises(UsageError, match="should be 9 finite numbers"):
        separation.refine(lambda candidates, rate: given, settings=SHORT)


def test_long_recordings_are_refused(tiny_model):
    silence = np.zeros((1, int(LONGEST * 8000) + 1), np.float32)
    separation = Separator.load(tiny_model).separate((silence, 8000), text="dog")
    with pytest.raises(UsageError, match="up to 60 seconds"):
        separation.refine(share_of_low)


def test_silence_stays_silence(tiny_model):
    separation = Separator.load(tiny_model).separate((np.zeros((1, 8000), np.float32), 8000), text="dog")
    made = separation.refine(lambda candidates, rate: -np.abs(candidates).sum((1, 2)), settings=SHORT)
    assert not made.target.any()
