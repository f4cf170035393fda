"""Dictionaries: the updates against their formula, what comes back is kept, masks of 0 and 1 stay, groups of bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.spectral import dictionaries as under_test
from marssep.spectral.dictionaries import Groups, approximate, compare, learn, move


def _refine(mask, magnitude):
    sides = np.array([magnitude * mask, magnitude * (1 - mask)])
    return move(mask, compare(sides, np.array([learn(side) for side in sides])))


def _divergence(magnitude, made):
    """Kullback and Leibler's, of spectrograms."""
    made = made + 1e-6
    return float((magnitude * np.log((magnitude + 1e-12) / made) - magnitude + made).sum())


def _notes(seed=0, *, bins=60, columns=120):
    """Two instruments of three notes each, played one after another; magnitudes with a mean of about one."""
    rng = np.random.default_rng(seed)
    sounds = []
    for _ in range(2):
        spectra = (rng.random((bins, 3)) < 0.15) * rng.uniform(5.0, 20.0, (bins, 3)) + 0.01
        playing = np.eye(3)[:, rng.integers(0, 3, columns // 10)].repeat(10, axis=1) * rng.uniform(0.5, 1.0, columns)
        sounds.append(spectra @ playing)
    return np.array(sounds, dtype=np.float32)


def test_learning_comes_nearer_with_every_update(monkeypatch):
    magnitude = _notes().sum(0)
    errors = []
    for updates in (1, 5, 20, 100):
        monkeypatch.setattr(under_test, "UPDATES", updates)
        spectra = learn(magnitude)
        np.testing.assert_allclose(spectra.sum(0), 1.0, atol=1e-4)
        errors.append(_divergence(magnitude, approximate(magnitude, spectra)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_activations_are_those_of_the_updates():
    rng = np.random.default_rng(0)
    magnitude, spectra = rng.random((7, 5)).astype(np.float32), rng.random((7, 3)).astype(np.float32)
    spectra /= spectra.sum(0)
    wanted = np.zeros((7, 5))
    for frame in range(5):  # one by one, in plain Python
        activations = [magnitude[:, frame].sum() / 3] * 3
        for _ in range(under_test.ACTIVATIONS):
            made = [sum(spectra[f, s] * activations[s] for s in range(3)) for f in range(7)]
            activations = [
                activations[s] * sum(spectra[f, s] * magnitude[f, frame] / made[f] for f in range(7)) for s in range(3)
            ]
        wanted[:, frame] = [sum(spectra[f, s] * activations[s] for s in range(3)) for f in range(7)]
    np.testing.assert_allclose(approximate(magnitude, spectra), wanted, rtol=1e-4)


def test_what_comes_back_is_told_from_what_slipped_through_once():
    sounds = _notes()
    magnitude = sounds.sum(0)
    truth = sounds[0] / magnitude
    rng = np.random.default_rng(1)
    mask = np.clip(truth + 0.35 * rng.standard_normal(truth.shape), 0.05, 0.95).astype(np.float32)
    made = _refine(mask, magnitude)
    before, after = (np.square((each - truth) * magnitude).sum() for each in (mask, made))
    assert after < 0.6 * before


@given(seed=st.integers(0, 99), frames=st.integers(1, 40))
def test_certainty_stays_and_the_other_side_is_the_rest(seed, frames):
    rng = np.random.default_rng(seed)
    magnitude = rng.gamma(0.3, 3.0, (9, frames)).astype(np.float32)
    mask = rng.choice([0.0, 0.2, 0.7, 1.0], (9, frames)).astype(np.float32)
    made = _refine(mask, magnitude)
    assert np.array_equal(made[mask == 0], mask[mask == 0])
    assert np.array_equal(made[mask == 1], mask[mask == 1])
    assert ((made >= 0) & (made <= 1)).all()
    np.testing.assert_allclose(_refine(1 - mask, magnitude), 1 - made, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 30])
def test_silence_says_nothing(frames):
    silence = np.zeros((9, frames), dtype=np.float32)
    mask = np.full((9, frames), 0.3, dtype=np.float32)
    made = _refine(mask, silence)
    assert np.isfinite(made).all()


def test_frames_are_worked_on_one_by_one():
    magnitude = _notes().sum(0)
    spectra = learn(magnitude)
    parts = [approximate(magnitude[:, part], spectra) for part in (slice(0, 7), slice(7, 120))]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), approximate(magnitude, spectra), rtol=1e-4)


def test_the_mask_moves_as_the_formula_says():
    rng = np.random.default_rng(0)
    mask, wanted, rest = rng.uniform(0.01, 0.99, (3, 6, 4)).astype(np.float32)
    w = under_test.WEIGHT
    one, other = mask ** (1 - w) * wanted**w, (1 - mask) ** (1 - w) * rest**w
    np.testing.assert_allclose(move(mask, np.log(wanted / rest)), one / (one + other), rtol=1e-5)


@given(n_bins=st.integers(1, 3000), spacing=st.floats(0.5, 500.0), seed=st.integers(0, 99))
def test_groups_cover_every_bin_once_and_widen_what_they_average(n_bins, spacing, seed):
    groups = Groups.of(n_bins, spacing)
    assert groups.sizes.sum() == n_bins
    values = np.random.default_rng(seed).random((n_bins, 2)).astype(np.float32)
    starts = np.cumsum(groups.sizes) - groups.sizes
    wanted = [values[start : start + size].mean(0) for start, size in zip(starts, groups.sizes, strict=True)]
    np.testing.assert_allclose(groups.mean(values), wanted, rtol=1e-4)
    np.testing.assert_array_equal(groups.widen(groups.mean(values))[starts], groups.mean(values))


def test_bins_are_taken_together_octave_by_octave():
    sizes = Groups.of(1537, 15.625).sizes  # 48 kHz
    hertz = (np.cumsum(sizes) - sizes) * 15.625
    octaves = np.floor(np.log2(np.maximum(hertz, 1000) / 1000)).astype(int)
    np.testing.assert_array_equal(sizes[:-1], 2 ** octaves[:-1])
    assert len(sizes) == 128 + 3 * 64 + 32 + 1
