"""Resampling keeps duration and pitch; mono is the mean."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marssep.audio import resample, to_mono


@given(st.integers(1, 5000), st.sampled_from([8000, 16000, 44100, 192000]), st.sampled_from([16000, 32000, 48000]))
def test_length_follows_the_rates(length, from_rate, to_rate):
    made = resample(np.ones((2, 3, length), np.float32), from_rate=from_rate, to_rate=to_rate)
    assert made.shape[:2] == (2, 3)
    assert abs(made.shape[2] - max(1, length * to_rate / from_rate)) <= 0.5
    assert made.dtype == np.float32


def test_a_tone_stays_where_it_was():
    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)

    made = resample(tone(44100), from_rate=44100, to_rate=16000)
    np.testing.assert_allclose(made[500:-500], tone(16000)[500:-500], atol=1e-3)


def test_one_rate_changes_nothing():
    waveform = np.arange(5, dtype=np.float32)
    assert resample(waveform, from_rate=8000, to_rate=8000) is waveform


def test_mono_is_the_mean_of_the_channels():
    np.testing.assert_array_equal(to_mono(np.array([[1.0, 0.0], [0.0, 0.5]])), [0.5, 0.25])
    np.testing.assert_array_equal(to_mono(np.array([1.0, 2.0])), [1.0, 2.0])
