"""Our figures against the libraries that others report with; `benchmarks/metric_agreement.py` measures more of it."""

import pytest
import torch

from marssep.metrics import bss_eval_batched, si_sdr_db, si_sdr_improvement, snr_db, snr_improvement
from marssep.metrics.signal import FLOOR_DB, is_silent

N = 4000


def signals(seed):
    generator = torch.Generator().manual_seed(seed)
    target, rest, artefact = 0.1 * torch.randn(3, N, generator=generator, dtype=torch.float64)
    return 0.9 * target + 0.2 * rest + 0.05 * artefact, target, target + rest


@pytest.mark.parametrize("seed", [0, 1])
def test_snr_and_si_sdr_equal_torchmetrics(seed):
    audio = pytest.importorskip("torchmetrics.functional.audio")
    estimate, target, _ = signals(seed)
    assert snr_db(estimate, target).item() == pytest.approx(audio.signal_noise_ratio(estimate, target).item(), abs=1e-9)
    theirs = audio.scale_invariant_signal_distortion_ratio(estimate, target).item()
    assert si_sdr_db(estimate, target).item() == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_bss_eval_of_images_is_not_that_of_sources(seed):
    """fast_bss_eval gives version 3, whose SIR and SAR are ours and whose SDR forgives any filter of the target."""
    fast = pytest.importorskip("fast_bss_eval")
    estimate, target, mixture = signals(seed)
    ours = bss_eval_batched(estimate[None], target[None], mixture=mixture)
    pair = torch.stack([target, mixture - target]), torch.stack([estimate, mixture - estimate])
    sdr, sir, sar = fast.bss_eval_sources(*pair, compute_permutation=False, use_cg_iter=None, load_diag=None)
    assert ours.sir_db.item() == pytest.approx(sir[0].item(), abs=1e-4)
    assert ours.sar_db.item() == pytest.approx(sar[0].item(), abs=1e-4)
    assert ours.filtered_sdr_db.item() == pytest.approx(sdr[0].item(), abs=1e-4)
    assert sdr[0] > ours.sdr_db.item()


def test_the_sdr_of_torchmetrics_is_version_3():
    audio = pytest.importorskip("torchmetrics.functional.audio")
    estimate, target, mixture = signals(0)
    ours = bss_eval_batched(estimate[None], target[None], mixture=mixture)
    theirs = audio.signal_distortion_ratio(estimate, target).item()
    assert ours.filtered_sdr_db.item() == pytest.approx(theirs, abs=1e-4)


def test_improvements_are_over_the_mixture():
    estimate, target, mixture = signals(0)
    for improvement, score in ((snr_improvement, snr_db), (si_sdr_improvement, si_sdr_db)):
        assert improvement(mixture, target, mixture=mixture) == 0.0
        gain = score(estimate, target) - score(mixture, target)
        torch.testing.assert_close(improvement(estimate, target, mixture=mixture), gain)


@pytest.mark.parametrize("metric", [snr_db, si_sdr_db])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_finite_has_no_score(metric, broken):
    estimate, target, _ = signals(0)
    estimate[5] = broken
    assert metric(estimate, target).isnan()
    assert metric(target, estimate).isnan()


def test_offsets_are_part_of_a_signal():
    _, target, _ = signals(0)
    target = target - target.mean()
    assert si_sdr_db(torch.full_like(target, 0.5), target) == FLOOR_DB
    assert si_sdr_db(target + 0.1, target).item() == pytest.approx(
        10 * torch.log10(target.square().mean() / 0.01).item(), abs=1e-6
    )


def test_silence_is_absolute():
    assert is_silent(torch.full((2, 8), 0.9e-6)).all()
    assert not is_silent(torch.full((8,), 1.1e-6))
