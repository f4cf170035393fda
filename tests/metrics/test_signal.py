"""Signal metrics: against independent implementations, closed forms, laws, and the table of silent cases."""

import inspect
import math

import fast_bss_eval
import pytest
import torch
import torchmetrics.functional.audio as reference_implementation
from hypothesis import given
from hypothesis import strategies as st

from marssep.metrics import level_db, si_sdr_db, si_sdr_improvement, snr_db, suppression_db
from marssep.metrics.signal import CEILING_DB, FLOOR_DB

SEEDS = st.integers(0, 2**31 - 1)


def signals(seed: int, *, n: int = 4000, batch: int = 3, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target, noise = torch.randn(2, batch, n, generator=generator, dtype=torch.float64) * 0.1
    gain = 10 ** torch.empty(batch, 1, dtype=torch.float64).uniform_(-1.5, 1.0, generator=generator)
    return [(target + gain * noise).to(dtype), target.to(dtype)]


@given(SEEDS)
def test_snr_agrees_with_torchmetrics(seed: int) -> None:
    estimate, target = signals(seed)
    expected = reference_implementation.signal_noise_ratio(estimate, target)
    torch.testing.assert_close(snr_db(estimate, target), expected, atol=1e-9, rtol=0)


@given(SEEDS)
def test_si_sdr_agrees_with_torchmetrics_and_fast_bss_eval(seed: int) -> None:
    estimate, target = signals(seed)
    value = si_sdr_db(estimate, target)
    theirs = reference_implementation.scale_invariant_signal_distortion_ratio(estimate, target)
    torch.testing.assert_close(value, theirs, atol=1e-9, rtol=0)
    fast = torch.stack([fast_bss_eval.si_sdr(t[None], e[None])[0] for e, t in zip(estimate, target, strict=True)])
    torch.testing.assert_close(value, fast, atol=1e-6, rtol=0)


def test_float32_input_keeps_float64_accuracy_and_its_own_type() -> None:
    # 80 dB in float32: torchmetrics' float32 answer is the one that drifts, ours is worked out in float64.
    target = signals(0)[1]
    estimate = target + 1e-4 * signals(1)[1]
    single = si_sdr_db(estimate.float(), target.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(
        single.double(), si_sdr_db(estimate.float().double(), target.float().double()), atol=1e-4, rtol=0
    )
    assert snr_db(estimate.half(), target.half()).dtype == torch.float16


def test_closed_forms() -> None:
    time = torch.arange(8000, dtype=torch.float64) / 8000
    target, other = torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 300 * time)
    for error, expected in ((1.0, 0.0), (0.1, 20.0), (0.01, 40.0)):
        estimate = target + error * other
        assert snr_db(estimate, target).item() == pytest.approx(expected, abs=1e-6)
        assert si_sdr_db(3.7 * estimate, target).item() == pytest.approx(expected, abs=1e-6)
    assert snr_db(0.5 * target, target).item() == pytest.approx(20 * math.log10(2), abs=1e-6)
    gain = si_sdr_improvement(target + 0.1 * other, target, mixture=target + other)
    assert gain.item() == pytest.approx(20.0, abs=1e-6)


@given(SEEDS, st.floats(0.01, 100.0))
def test_si_sdr_does_not_see_the_scale_of_the_estimate(seed: int, scale: float) -> None:
    estimate, target = signals(seed)
    torch.testing.assert_close(si_sdr_db(scale * estimate, target), si_sdr_db(estimate, target), atol=1e-8, rtol=0)


@given(SEEDS)
def test_doing_nothing_improves_by_exactly_zero(seed: int) -> None:
    mixture, target = signals(seed, dtype=torch.float32)
    assert torch.equal(si_sdr_improvement(mixture, target, mixture=mixture), torch.zeros(3))


@given(SEEDS)
def test_a_batch_is_its_items(seed: int) -> None:
    estimate, target = signals(seed)
    for metric in (snr_db, si_sdr_db, suppression_db):
        whole = metric(estimate, target)
        assert torch.equal(whole, torch.stack([metric(e, t) for e, t in zip(estimate, target, strict=True)]))


def test_leading_axes_broadcast() -> None:
    mixture, targets = torch.randn(50), torch.randn(2, 3, 50)
    assert si_sdr_db(mixture, targets).shape == (2, 3)
    assert level_db(mixture).shape == ()


SOUND = torch.sin(torch.arange(100.0))
SILENCE = torch.zeros(100)
FAINT = 1e-8 * SOUND  # -163 dB of full scale: nobody hears it, though the scale-invariant formula would


@pytest.mark.parametrize(
    ("estimate", "target", "snr", "si_sdr"),
    [
        (SILENCE, SOUND, 0.0, FLOOR_DB),
        (FAINT, SOUND, 0.0, FLOOR_DB),
        (SOUND, SOUND, CEILING_DB, CEILING_DB),
        (SOUND, SILENCE, math.nan, math.nan),
        (SILENCE, SILENCE, math.nan, math.nan),
        (SOUND, FAINT, math.nan, math.nan),
    ],
)
def test_silent_cases(estimate: torch.Tensor, target: torch.Tensor, snr: float, si_sdr: float) -> None:
    assert snr_db(estimate, target).item() == pytest.approx(snr, abs=1e-6, nan_ok=True)
    assert si_sdr_db(estimate, target).item() == pytest.approx(si_sdr, nan_ok=True)


def test_a_silent_estimate_does_not_look_like_doing_nothing() -> None:
    other = torch.cos(torch.arange(100.0))
    mixture = SOUND + other
    assert si_sdr_improvement(SILENCE, SOUND, mixture=mixture).item() < -50.0
    # what torchmetrics says of it, which is why this is defined here
    assert reference_implementation.scale_invariant_signal_distortion_ratio(SILENCE, SOUND).item() == pytest.approx(0.0)


def test_suppression() -> None:
    assert suppression_db(0.1 * SOUND, SOUND).item() == pytest.approx(20.0, abs=1e-4)
    assert suppression_db(SILENCE, SOUND).item() == CEILING_DB
    assert math.isnan(suppression_db(SOUND, SILENCE).item())
    assert level_db(SILENCE).item() == -120.0
    assert level_db(torch.ones(10)).item() == 0.0


@pytest.mark.parametrize("silent", ["estimate", "target", "none"])
def test_gradients_are_finite(silent: str) -> None:
    estimate = (SILENCE if silent == "estimate" else SOUND + 0.1).clone().requires_grad_()
    target = SILENCE if silent == "target" else SOUND
    for metric in (snr_db, si_sdr_db, suppression_db):
        (gradient,) = torch.autograd.grad(metric(estimate, target).nan_to_num(), estimate)
        assert gradient.isfinite().all()


def test_refuses() -> None:
    with pytest.raises(ValueError, match="estimate has 3 samples, reference 4"):
        inspect.unwrap(snr_db)(torch.ones(3), torch.ones(4))  # past the shape check of the tests
    with pytest.raises(ValueError, match="without samples"):
        si_sdr_db(torch.ones(2, 0), torch.ones(2, 0))
