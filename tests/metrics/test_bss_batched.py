import inspect

import numpy as np
import pytest
import torch

from marssep.metrics import BssReference, bss_eval_batched, bss_eval_v4, snr_db
from marssep.metrics.signal import CEILING_DB, FLOOR_DB

N = 6000


def noise(seed, *, smooth=1):
    made = np.random.default_rng(seed).standard_normal(N)
    return 0.1 * np.convolve(made, np.ones(smooth) / smooth, "same")


def tone(hertz):
    return 0.1 * np.sin(2 * np.pi * hertz * np.arange(N) / 16000)


def ours(estimate, target, mixture):
    rows = (torch.from_numpy(np.atleast_2d(wave)) for wave in (estimate, target))
    figures = bss_eval_batched(*rows, mixture=torch.from_numpy(mixture))
    return [value.item() for value in (figures.sdr_db, figures.sir_db, figures.sar_db)]


CASES = {
    "white": (noise(0), noise(1), noise(2)),
    "coloured": (noise(0, smooth=9), noise(1, smooth=3), noise(2, smooth=5)),
    "tones": (tone(440), tone(1000), tone(3000)),  # singular but for rounding: the normal matrix has rank 4
    "tone in noise": (tone(440), noise(1), noise(2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("leak", [0.5, 0.1, 0.01])
def test_equals_museval(case, leak):
    target, rest, artefact = CASES[case]
    estimate = 0.8 * target + leak * rest + 0.3 * leak * artefact
    oracle = bss_eval_v4(estimate, target, mixture=target + rest)
    wanted = [oracle.sdr_db, oracle.sir_db, oracle.sar_db]
    np.testing.assert_allclose(ours(estimate, target, target + rest), wanted, rtol=0, atol=1e-5)


def test_filters_of_the_target_are_forgiven():
    """A short echo is the target still: museval says so, and SDR does not."""
    target, rest = noise(0), noise(1)
    estimate = target + 0.5 * np.roll(target, 20) + 0.1 * rest
    oracle = bss_eval_v4(estimate, target, mixture=target + rest)
    made = ours(estimate, target, target + rest)
    np.testing.assert_allclose(made, [oracle.sdr_db, oracle.sir_db, oracle.sar_db], rtol=0, atol=1e-5)
    assert made[1] > made[0] + 5.0


def test_systems_share_the_factors_and_rows_keep_their_order():
    targets = torch.from_numpy(np.stack([noise(0), noise(1, smooth=4)]))
    mixture = targets.sum(0)
    reference = BssReference(targets, mixture)
    for estimates in (targets + 0.1 * mixture, 0.7 * targets.flip(0) + targets):
        together = reference(estimates)
        for row in range(2):
            alone = ours(estimates[row].numpy(), targets[row].numpy(), mixture.numpy())
            assert together.sir_db[row].item() == pytest.approx(alone[1], abs=1e-9)
            assert together.sar_db[row].item() == pytest.approx(alone[2], abs=1e-9)


def test_doing_nothing_has_a_score():
    """museval refuses it, since the rest of the mixture minus the mixture is silent."""
    target, rest = noise(0), noise(1)
    sdr, sir, sar = ours(target + rest, target, target + rest)
    assert sdr == pytest.approx(snr_db(torch.from_numpy(target + rest), torch.from_numpy(target)).item())
    assert abs(sir) < 1.0
    assert sar == CEILING_DB


def test_silent_and_equal_signals():
    target, rest, silence = noise(0), noise(1), np.zeros(N)
    assert ours(silence, target, target + rest) == [0.0, FLOOR_DB, FLOOR_DB]
    assert np.isnan(ours(target, silence, rest)).all()
    assert ours(target, target, target + rest) == [CEILING_DB] * 3
    alone = ours(target + 0.1 * rest, target, target)
    assert np.isnan(alone[1])
    assert alone[2] == pytest.approx(20.0, abs=1.0)
    rest[7] = np.nan
    assert np.isnan(ours(rest, target, target + noise(1))).all()


def test_a_constant_offset_is_an_artefact():
    target, rest = noise(0), noise(1)
    mixture = target + rest
    assert ours(target + 0.05, target, mixture)[2] < ours(target + 0.001, target, mixture)[2]


def test_shapes_must_agree():
    targets = torch.zeros(2, 8)
    with pytest.raises(ValueError, match="mixture"):
        inspect.unwrap(BssReference.__init__)(object(), targets, torch.zeros(9))  # past the shape check of the tests
    with pytest.raises(ValueError, match="estimates"):
        BssReference(targets, torch.zeros(8))(torch.zeros(1, 8))
