import inspect
import math

import numpy as np
import pytest
import torch

from marssep.metrics import log_wmse
from marssep.metrics.weighted import LOG_WMSE_CEILING, ear_response

RATE = 44100


def noise(seed, n=RATE // 2):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def score(estimate, reference, mixture, rate=RATE):
    return log_wmse(estimate, reference, mixture=mixture, sample_rate=rate)


@pytest.mark.parametrize("rate", [44100, 32000, 16000])
@pytest.mark.parametrize("leak", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("silent", [False, True])
def test_equals_the_published_package(rate, leak, silent):
    # not among the development tools: it asks for an older soxr than ours and works with ours all the same
    published = pytest.importorskip("log_wmse_audio_quality", reason="pip install --no-deps log-wmse-audio-quality")
    target, rest = noise(0), noise(1)
    if silent:
        target = torch.zeros_like(target)
    estimate, mixture = target + leak * rest, target + rest
    theirs = published.calculate_log_wmse(mixture.numpy(), estimate.numpy(), target.numpy(), rate)
    # the package cuts the filter's ringing at both ends and resamples; its steps are natural logarithms times four
    assert score(estimate, target, mixture, rate).item() == pytest.approx(float(theirs), abs=0.02)


def test_the_weighting_follows_the_ear():
    power = 10 * torch.log10(ear_response(torch.tensor([50.0, 1000.0, 3000.0, 15000.0, 30000.0])))
    low, middle, best, high, beyond = power.tolist()
    assert low < -10 < middle < best
    assert high < -9
    assert beyond == -math.inf


def test_silent_targets_are_answered():
    mixture, silence = noise(0), torch.zeros(RATE // 2)
    assert score(silence, silence, mixture).item() == pytest.approx(LOG_WMSE_CEILING, abs=1e-4)
    assert score(0.1 * mixture, silence, mixture).item() == pytest.approx(4 * math.log(100), abs=1e-4)
    assert score(mixture, silence, mixture).item() == pytest.approx(0.0, abs=1e-4)


def test_what_is_not_defined_is_nan():
    mixture, silence = noise(0), torch.zeros(RATE // 2)
    assert score(mixture, silence, silence).isnan()
    broken = mixture.clone()
    broken[3] = torch.nan
    assert score(broken, mixture, mixture).isnan()


def test_scale_and_rows():
    target, rest = noise(0), noise(1)
    estimates = torch.stack([target, target + 0.1 * rest])
    rows = score(estimates, torch.stack([target, target]), target + rest)
    assert rows[0].item() == pytest.approx(LOG_WMSE_CEILING, abs=1e-4)
    louder = score(100 * estimates[1], 100 * target, 100 * (target + rest))
    assert rows[1].item() == pytest.approx(louder.item(), abs=1e-4)
    constant = score(target + 0.1, target, target + rest)
    assert constant > score(target + 0.1 * rest / rest.std(), target, target + rest)  # nobody hears an offset


def test_lengths_and_rates_must_make_sense():
    with pytest.raises(ValueError, match="length"):
        inspect.unwrap(log_wmse)(torch.zeros(3), torch.zeros(4), mixture=torch.zeros(4), sample_rate=RATE)
    with pytest.raises(ValueError, match="rate"):
        score(torch.zeros(4), torch.zeros(4), torch.zeros(4), 0)
    np.testing.assert_equal(score(torch.ones(4), torch.ones(4), torch.ones(4), 1).shape, ())
