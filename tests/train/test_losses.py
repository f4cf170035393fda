"""The supervised loss and its grid SI-SDR."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from marssep.metrics import si_sdr_db
from marssep.model import MaskOutput
from marssep.spectral import SpectralSettings, Spectrogram
from marssep.train.losses import (
    GridTargets,
    grid_level_db,
    grid_si_sdr,
    ideal_mask,
    mask_cross_entropy,
    noise_invariant_entropy,
    supervised_loss,
)
from marssep.train.settings import LossSettings

RATE = 16000


def _targets(waveforms: torch.Tensor) -> GridTargets:
    spectrogram = Spectrogram(SpectralSettings(n_bands=64, max_frequency=8000.0, frames_per_step=1))
    spectra = spectrogram.stft(waveforms, RATE)
    mixture = spectra.sum(0)
    scale = spectrogram.row_scale(RATE)
    inner = lambda a, b: spectrogram.pool((a.conj() * b).real, RATE) * scale  # noqa: E731
    weight = spectrogram.row_bins(RATE)
    return GridTargets(
        inner(mixture, mixture)[None],
        inner(spectra, spectra)[None],
        inner(spectra, mixture.expand_as(spectra))[None],
        weight / weight.mean(),
        torch.ones(1, len(waveforms), dtype=torch.bool),
    )


def _waveforms() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 440 * time) * (time < 0.6)
    noise = 0.3 * torch.randn(RATE, generator=generator) * (time > 0.3)
    return torch.stack([tone, noise])


def test_grid_si_sdr_of_doing_nothing_is_that_of_the_mixture() -> None:
    waveforms = _waveforms()
    targets = _targets(waveforms)
    on_grid = grid_si_sdr(torch.ones_like(targets.target_power), targets)[0]
    exact = si_sdr_db(waveforms.sum(0).expand_as(waveforms), waveforms)
    # The Hann windows at the edges and the bound of 30 dB leave small differences.
    torch.testing.assert_close(on_grid, exact, atol=0.05, rtol=0.05)


def test_the_ideal_mask_scores_better_than_nothing_and_worse_masks_score_worse() -> None:
    targets = _targets(_waveforms())
    ideal = ideal_mask(targets, "ratio")
    scores = [grid_si_sdr(mask, targets).mean() for mask in (ideal, 0.5 * ideal + 0.5, torch.ones_like(ideal))]
    assert scores[0] > scores[1] + 1 > scores[2] + 2


def test_loss_falls_towards_the_ideal_mask() -> None:
    targets = _targets(_waveforms())
    presence = torch.full((1, 2), 5.0)
    good = MaskOutput(ideal_mask(targets, "ratio").logit(eps=1e-3), presence)
    bad = MaskOutput(-good.logits, -presence)
    settings = LossSettings()
    assert supervised_loss(good, targets, settings).loss < supervised_loss(bad, targets, settings).loss - 0.5


def test_absent_queries_want_an_empty_mask_and_no_si_sdr() -> None:
    targets = _targets(torch.cat([_waveforms(), torch.zeros(1, RATE)]))
    targets = GridTargets(
        targets.power,
        targets.target_power,
        targets.cross_power,
        targets.cell_weight,
        torch.tensor([[True, True, False]]),
    )
    assert ideal_mask(targets, "ratio")[0, 2].max() == 0
    logits = ideal_mask(targets, "ratio").logit(eps=1e-3).requires_grad_()
    terms = supervised_loss(MaskOutput(logits, torch.zeros(1, 3)), targets, LossSettings(cross_entropy=0.0))
    (gradient,) = torch.autograd.grad(terms.loss, logits)
    assert gradient[0, 2].abs().max() == 0
    assert gradient[0, 0].abs().max() > 0


@pytest.mark.parametrize("kind", ["ratio", "binary"])
def test_ideal_masks_lie_between_0_and_1(kind: str) -> None:
    mask = ideal_mask(_targets(_waveforms()), kind)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1


def test_level_of_the_masked_mixture_is_exact_for_flat_masks() -> None:
    targets = _targets(_waveforms())
    level = grid_level_db(torch.full_like(targets.target_power, 0.1), targets)
    torch.testing.assert_close(level, torch.full((1, 2), -20.0), atol=1e-3, rtol=0.0)


def test_suppression_acts_on_absent_queries_alone_and_ends_at_its_goal() -> None:
    targets = _targets(_waveforms())
    absent = dataclasses.replace(targets, present=torch.tensor([[True, False]]))
    logits = torch.zeros_like(targets.target_power, requires_grad=True)
    alone = LossSettings(cross_entropy=0.0, si_sdr=0.0, presence=0.0, suppression=0.1)
    terms = supervised_loss(MaskOutput(logits, torch.zeros(1, 2)), absent, alone)
    (slope,) = torch.autograd.grad(terms.loss, logits)
    assert not slope[0, 0].any()
    assert (slope[0, 1] >= 0).all()
    assert slope[0, 1].any()
    torch.testing.assert_close(terms.suppression, 10 * torch.log10(torch.tensor(0.25)), atol=1e-3, rtol=0)
    silent = torch.full_like(targets.target_power, -8.0, requires_grad=True)
    (flat,) = torch.autograd.grad(supervised_loss(MaskOutput(silent, torch.zeros(1, 2)), absent, alone).loss, silent)
    assert not flat.any()


def _plain_noise_invariant(mask: torch.Tensor, noise: torch.Tensor, targets: GridTargets) -> float:
    """One number at a time, as CLIPSep-NIT's code has it (but for the division by the sum of the weights)."""
    ideal, total, weights = ideal_mask(targets, "binary"), 0.0, 0.0
    for b in range(len(mask)):
        costs = []
        for order in ((0, 1), (1, 0)):
            cost = 0.0
            for q in range(2):
                for i, j in np.ndindex(*mask.shape[2:]):
                    joint = min(1.0, float(mask[b, q, i, j]) + float(noise[b, order[q], i, j]))
                    weight = min(max(math.log1p(math.sqrt(float(targets.power[b, i, j]))), 1e-3), 10.0)
                    likelihood = joint if float(ideal[b, q, i, j]) else 1.0 - joint
                    cost -= weight * max(math.log(max(likelihood, 1e-300)), -100.0)
                    weights += weight / 4
            costs.append(cost)
        total += min(costs)
    return total / (2 * weights)


def test_noise_invariant_entropy_is_that_of_plain_loops_and_blind_to_the_order_of_noise_masks() -> None:
    generator = torch.Generator().manual_seed(1)
    own = torch.rand(2, 2, 3, 4, generator=generator)
    targets = GridTargets(own.sum(1), own, own, torch.ones(3, 1), torch.ones(2, 2, dtype=torch.bool))
    # Below one half, so that no sum is cut at 1, and above it in the second mixture, so that some are.
    logits = torch.randn(2, 2, 3, 4, generator=generator) - torch.tensor([3.0, 0.0])[:, None, None, None]
    noise = torch.randn(2, 2, 3, 4, generator=generator) - torch.tensor([3.0, 0.0])[:, None, None, None]
    settings = LossSettings(mask="binary")
    entropy = noise_invariant_entropy(logits, noise, targets, settings)
    expected = _plain_noise_invariant(logits.sigmoid(), noise.sigmoid(), targets)
    assert float(entropy) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(noise_invariant_entropy(logits, noise.flip(1), targets, settings), entropy)
    nothing = torch.full_like(noise, -40.0)
    torch.testing.assert_close(
        noise_invariant_entropy(logits, nothing, targets, settings),
        mask_cross_entropy(logits, targets, ideal_mask(targets, "binary")),
    )


def test_noise_masks_cost_what_they_take_above_the_goal() -> None:
    targets = _targets(_waveforms())
    alone = LossSettings(cross_entropy=0.0, si_sdr=0.0, presence=0.0, noise=0.1, noise_goal=0.25)
    silent = torch.zeros_like(targets.target_power)
    for activation, cost in ((0.1, 0.0), (0.5, 0.1 * (2 * 0.5 - 0.25))):
        noise = torch.full_like(silent, activation).logit().requires_grad_()
        loss = supervised_loss(MaskOutput(silent, torch.zeros(1, 2), noise), targets, alone).loss
        assert loss.item() == pytest.approx(cost, abs=1e-6)
        (slope,) = torch.autograd.grad(loss, noise)
        assert bool((slope > 0).all()) == (cost > 0)
