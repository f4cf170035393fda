"""Adaptation: segments that fade, pieces that do not matter, sums that hold, and what must stay as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.spectral import adaptation as under_test
from marssep.spectral.adaptation import Adaptation, recipe
from marssep.spectral.dictionaries import compare, learn, move
from marssep.spectral.directions import DirectionFilter, covariance
from marssep.spectral.settings import SpectralSettings

BINS = 5
PER_STEP = SpectralSettings().frames_per_step
COLUMNS = 4  # of a short segment


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(under_test, "SEGMENT_SECONDS", COLUMNS * SpectralSettings().step_seconds)


def _random(channels, frames, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((BINS, channels, channels))
    made = mixing @ (rng.standard_normal((BINS, channels, frames)) + 1j * rng.standard_normal((BINS, channels, frames)))
    return made.transpose(1, 0, 2).astype(np.complex64), rng.random((BINS, frames)).astype(np.float32)


def _learnt(spectrum, *masks, pieces=None, directions=True):
    """From a whole recording, pushed in pieces of so many columns."""
    made = Adaptation(SpectralSettings(), directions=directions)
    seen, columns = spectrum[..., ::PER_STEP], np.stack(masks)[..., ::PER_STEP]
    size = pieces or seen.shape[-1]
    for begin in range(0, seen.shape[-1], size):
        made.push(seen[..., begin : begin + size], columns[..., begin : begin + size])
    made.finish()
    return made


def _segment_by_segment(spectrum, mask):
    """What the class's text says, with everything in memory."""
    seen, shares = spectrum[..., ::PER_STEP], mask[:, ::PER_STEP]
    starts = range(0, seen.shape[-1], COLUMNS)
    spectra, sums, sides = [], [], []
    for start in starts:
        part = slice(start, start + COLUMNS)
        magnitude = np.abs(seen[..., part]).mean(0) / np.abs(seen[..., part]).mean()
        sides.append(np.array([magnitude * shares[:, part], magnitude * (1 - shares[:, part])]))
        spectra.append(np.array([learn(side) for side in sides[-1]]))
        refined = move(shares[:, part], compare(sides[-1], spectra[-1]))
        cells = seen[..., part].transpose(1, 0, 2)
        sums.append(np.array([covariance(cells, each) for each in (refined, 1 - refined)]).astype(complex))

    def own_shares(column):
        at = min(max(column / COLUMNS - 0.5, 0), len(starts) - 1)
        found = [
            min(1.0, max(0.0, (0.5 - abs(at - segment)) / under_test.FADE + 0.5)) for segment in range(len(starts))
        ]
        assert sum(found) == pytest.approx(1.0)
        return found

    said = np.zeros(seen.shape[1:])
    for column in range(seen.shape[-1]):
        own, place = sides[column // COLUMNS], column % COLUMNS
        for segment, share in enumerate(own_shares(column)):
            said[:, column] += share * compare(own[..., place : place + 1], spectra[segment])[:, 0]
    made = np.zeros(spectrum.shape, complex)
    for t in range(spectrum.shape[-1]):
        column, past = divmod(t, PER_STEP)
        following = min(column + 1, seen.shape[-1] - 1)
        between = said[:, column] + past / PER_STEP * (said[:, following] - said[:, column])
        refined = move(mask[:, t : t + 1], between[:, None].astype(np.float32))
        for segment, share in enumerate(own_shares(t / PER_STEP)):
            beside = [sums[other] / 2 for other in (segment - 1, segment + 1) if 0 <= other < len(starts)]
            filtering = DirectionFilter.of(*(sums[segment] + sum(beside)))
            now = spectrum[..., t : t + 1].transpose(1, 0, 2)
            made[..., t : t + 1] += share * filtering.apply(now, refined).transpose(1, 0, 2)
    return made


@pytest.mark.parametrize("frames", [7, 30, 53])
def test_segments_fade_into_each_other(short_segments, frames):
    spectrum, mask = _random(2, frames)
    with _learnt(spectrum, mask) as adaptation:
        made = adaptation.apply(spectrum, mask)
    np.testing.assert_allclose(made, _segment_by_segment(spectrum, mask), atol=2e-3)


@pytest.mark.parametrize("directions", [True, False])
def test_neither_pieces_nor_parts_nor_other_sounds_matter(short_segments, directions):
    spectrum, mask = _random(2, 60)
    with (
        _learnt(spectrum, mask, directions=directions) as whole,
        _learnt(spectrum, 1 - mask, mask, pieces=3, directions=directions) as pieces,
    ):
        made = whole.apply(spectrum, mask)
        for part in (slice(0, 11), slice(11, 12), slice(12, 60), slice(5, 20)):
            found = pieces.apply(spectrum[..., part], mask[:, part], sound=1, first_frame=part.start)
            np.testing.assert_allclose(found, made[..., part], atol=1e-3)


@given(channels=st.integers(1, 6), frames=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_sound_and_its_rest_add_up(channels, frames, seed):
    spectrum, mask = _random(channels, frames, seed)
    with _learnt(spectrum, mask, 1 - mask, directions=channels > 1) as adaptation:
        made = sum(adaptation.apply(spectrum, each, sound=number) for number, each in enumerate((mask, 1 - mask)))
    np.testing.assert_allclose(made, spectrum, atol=2e-4 * np.abs(spectrum).max())


@pytest.mark.parametrize("directions", [True, False])
@pytest.mark.parametrize(("value", "factor"), [(0.0, 0.0), (1.0, 1.0), (1.0 + 1e-6, 1.0)])
def test_all_and_nothing_stay_so(directions, value, factor):
    spectrum, mask = _random(2, 20)
    mask[:] = value
    with _learnt(spectrum, mask, directions=directions) as adaptation:
        made = adaptation.apply(spectrum, mask)
    np.testing.assert_allclose(made, factor * spectrum, atol=2e-5 * np.abs(spectrum).max())


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e25])
def test_levels_that_squares_cannot_hold_do_no_harm(level):
    spectrum, mask = _random(2, 20)
    spectrum = (spectrum * np.float32(level)).astype(np.complex64)
    with np.errstate(over="ignore", invalid="ignore"), _learnt(spectrum, mask) as adaptation:
        made = adaptation.apply(spectrum, mask)
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= 2 * np.abs(spectrum).max()


def test_the_recipe_names_every_constant():
    named = {
        name.lower()
        for module in (under_test, under_test.dictionaries, under_test.directions)
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, int | float)
    }
    assert set(recipe()) == named
