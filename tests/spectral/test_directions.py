"""Directions: the filter against its formula, what it does with sounds from two sides, and where it must do nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.spectral import directions as under_test
from marssep.spectral.directions import MOST_CHANNELS, DirectionFilter, channels_differ, covariance

BINS = 5


def random_sound(channels, frames, seed=0, *, alike=0.0):
    """Noise that goes together between channels in another way in every bin, or in all bins nearly `alike`."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((BINS, channels, channels))
    mixing = alike * mixing[:1] + (1 - alike) * mixing
    spectrum = rng.standard_normal((2, BINS, channels, frames))
    made = mixing @ (spectrum[0] + 1j * spectrum[1])
    return made.astype(np.complex64), rng.random((BINS, frames)).astype(np.float32)


def _measured(spectrum, mask):
    return DirectionFilter.of(*(covariance(spectrum, each).astype(complex) for each in (mask, 1 - mask)))


def _by_formula(spectrum, mask):
    """W x, cell by cell, as the module's text says it."""
    channels = spectrum.shape[1]

    def unit(matrix):
        return matrix / (np.trace(matrix).real / channels)

    def estimates(weights):
        summed = [
            sum(weights[f, k] ** 2 * np.outer(x, x.conj()) for k, x in enumerate(spectrum[f].T.astype(complex)))
            for f in range(BINS)
        ]
        loud = np.sqrt([np.trace(each).real for each in summed])
        loud /= loud.sum()
        common = sum(weight * unit(each) for weight, each in zip(loud, summed, strict=True))
        own = sum(weight * np.linalg.norm(unit(each)) ** 2 for weight, each in zip(loud, summed, strict=True))
        sure = max(0.0, (np.linalg.norm(common) ** 2 / own - under_test.AGREEMENT) / (1 - under_test.AGREEMENT))
        shared = (under_test.SHRINKAGE + under_test.AGREED * sure**2) * unit(common)
        return sure, [unit(unit(each) + shared + under_test.FLOOR * np.eye(channels)) for each in summed]

    (sure, wanted), (_, rest) = estimates(mask.astype(float)), estimates(1 - mask.astype(float))
    made = np.zeros(spectrum.shape, complex)
    for f, t in np.ndindex(mask.shape):
        m = float(mask[f, t])
        both = m * wanted[f] + (1 - m) * rest[f]
        made[f, :, t] = m * wanted[f] @ np.linalg.inv(both) @ spectrum[f, :, t]
    return sure, made


@pytest.mark.parametrize("alike", [0.0, 0.9])
@pytest.mark.parametrize(("channels", "frames"), [(2, 7), (2, 31), (3, 40)])
def test_the_filter_is_that_of_the_formula(channels, frames, alike):
    spectrum, mask = random_sound(channels, frames, alike=alike)
    sure, wanted = _by_formula(spectrum, mask)
    assert (sure > 0) == (alike > 0)  # both of the estimate's branches are seen
    np.testing.assert_allclose(_measured(spectrum, mask).apply(spectrum, mask), wanted, atol=2e-4)


@given(channels=st.integers(2, 6), frames=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_sound_and_its_rest_add_up(channels, frames, seed):
    spectrum, mask = random_sound(channels, frames, seed)
    made = sum(_measured(spectrum, each).apply(spectrum, each) for each in (mask, 1 - mask))
    np.testing.assert_allclose(made, spectrum, atol=1e-4 * np.abs(spectrum).max())


@given(channels=st.integers(2, 6), seed=st.integers(0, 99))
def test_where_all_comes_from_one_place_the_mask_is_all(channels, seed):
    rng = np.random.default_rng(seed)
    one, mask = random_sound(1, 40, seed)
    gains = (rng.standard_normal(channels) + 1j * rng.standard_normal(channels)).astype(np.complex64)
    spectrum = gains[:, None] * one
    made = _measured(spectrum, mask).apply(spectrum, mask)
    np.testing.assert_allclose(made, mask[:, None] * spectrum, atol=1e-4 * np.abs(spectrum).max())


def test_sounds_from_two_sides_part_where_the_mask_cannot_tell():
    rng = np.random.default_rng(0)
    places = np.array([[1.0, 0.2], [0.3, 1.0]])
    heard = (rng.standard_normal((2, 2, BINS, 400)) * [[[[1.0]]], [[[1.0j]]]]).sum(0)
    heard *= rng.random(heard.shape) < 0.5  # cells with one of the two, both and none
    sources = places[:, None, :, None] * heard[:, :, None]
    spectrum = sources.sum(0).astype(np.complex64)
    power = (np.abs(sources) ** 2).sum(2) + 1e-9
    share = power[0] / power.sum(0)
    mask = np.where(rng.random(share.shape) < 0.5, share, 0.5).astype(np.float32)  # half of the cells are a mystery
    made = _measured(spectrum, mask).apply(spectrum, mask)

    def error_db(estimate):
        return 10 * np.log10((np.abs(estimate - sources[0]) ** 2).sum() / (np.abs(sources[0]) ** 2).sum())

    assert error_db(made) < error_db(mask[:, None] * spectrum) - 5.0
    assert error_db(made) < error_db(share[:, None] * spectrum)  # the best mask cannot part the shared cells


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e25])
def test_what_cannot_be_measured_leaves_the_mask(level):
    spectrum, mask = random_sound(2, 20)
    spectrum = (spectrum * np.float32(level)).astype(np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):
        made = _measured(spectrum, mask).apply(spectrum, mask)
    np.testing.assert_allclose(made, mask[:, None] * spectrum, atol=1e-5 * np.abs(spectrum).max())


def test_when_there_is_nothing_to_measure():
    noise = np.random.default_rng(0).standard_normal((MOST_CHANNELS + 1, 9)).astype(np.float32)
    assert channels_differ(noise[:2])
    assert channels_differ(noise[:MOST_CHANNELS])
    assert not channels_differ(noise)
    assert not channels_differ(noise[:1])
    assert not channels_differ(np.repeat(noise[:1], 4, axis=0))
