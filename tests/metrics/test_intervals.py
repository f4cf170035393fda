"""Intervals: they cover, clusters widen them, pairing narrows them, and equal seeds repeat them."""

import math

import numpy as np
import pytest

from marssep.metrics import mean_interval, paired_difference, ratio_interval, share_interval, unpaired_difference


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    trials = 300
    hits = 0
    for trial in range(trials):
        interval = mean_interval(rng.normal(3.0, 5.0, 60), resamples=400, seed=trial)
        hits += interval.low <= 3.0 <= interval.high
    assert 0.90 <= hits / trials <= 0.98


def test_clustered_values_are_not_independent() -> None:
    rng = np.random.default_rng(1)
    trials, hits_clustered, hits_naive = 200, 0, 0
    clusters = [index // 4 for index in range(160)]
    for trial in range(trials):
        values = np.repeat(rng.normal(0.0, 1.0, 40), 4) + rng.normal(0.0, 0.3, 160)
        clustered = mean_interval(values, clusters, resamples=300, seed=trial)
        naive = mean_interval(values, resamples=300, seed=trial)
        hits_clustered += clustered.low <= 0.0 <= clustered.high
        hits_naive += naive.low <= 0.0 <= naive.high
        assert (clustered.n, clustered.n_clusters) == (160, 40)
    assert hits_clustered / trials >= 0.89
    assert hits_naive / trials <= 0.80


def test_a_planted_difference_is_seen_paired_and_not_unpaired() -> None:
    rng = np.random.default_rng(2)
    trials, detected, covered, overlapping, false_alarms = 40, 0, 0, 0, 0
    for _ in range(trials):
        difficulty = rng.normal(5.0, 5.0, 500)  # what makes an item hard is hard for every system
        first, second, third = difficulty + rng.normal(0.0, 0.7, (3, 500)) + [[0.2], [0.0], [0.0]]
        paired = paired_difference(first, second, resamples=300)
        ours, theirs = mean_interval(first, resamples=300, seed=1), mean_interval(second, resamples=300, seed=2)
        assert paired.high - paired.low < 0.3 * (ours.high - ours.low)
        detected += paired.excludes_zero()
        covered += paired.low < 0.2 < paired.high
        overlapping += ours.low < theirs.high
        false_alarms += paired_difference(second, third, resamples=300).excludes_zero()
    assert detected >= 0.95 * trials
    assert covered >= 0.85 * trials
    assert overlapping == trials
    assert false_alarms <= 0.15 * trials


def test_equal_seeds_repeat_and_nothing_depends_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=50)
    interval = mean_interval(values, seed=7)
    assert interval == mean_interval(values, seed=7)
    assert interval != mean_interval(values, seed=8)
    monkeypatch.setattr("marssep.metrics.intervals._BLOCK", 1000)
    assert interval == mean_interval(values, seed=7)


def test_nan_is_left_out() -> None:
    interval = mean_interval([1.0, math.nan, 3.0], ["a", "b", "c"])
    assert (interval.mean, interval.n, interval.n_clusters) == (2.0, 2, 2)
    assert paired_difference([1.0, math.nan, 2.0], [0.0, 1.0, math.nan]).n == 1
    empty = mean_interval([math.nan])
    assert math.isnan(empty.mean)
    assert not empty.excludes_zero()


def test_a_ratio_is_of_the_sums() -> None:
    interval = ratio_interval([1.0, 9.0], [2.0, 10.0])
    assert interval.mean == pytest.approx(10 / 12)
    assert interval.low == pytest.approx(0.5)
    assert interval.high == pytest.approx(0.9)


def test_share_by_hand() -> None:
    # Wilson for 9 of 10 at 95 %: (0.596, 0.982), as in Brown, Cai and DasGupta (2001).
    interval = share_interval([1] * 9 + [0])
    assert (interval.mean, interval.n) == (0.9, 10)
    assert interval.low == pytest.approx(0.596, abs=1e-3)
    assert interval.high == pytest.approx(0.982, abs=1e-3)
    sure = share_interval([True] * 100)
    assert sure.high == 1.0
    assert sure.low == pytest.approx(0.963, abs=1e-3)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="3 against 2"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="clusters for 1"):
        mean_interval([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0], level=95.0)


def two_systems(planted: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 500 items that are 6 dB apart, by two systems that are 1.5 dB apart on each item."""
    generator = np.random.default_rng(seed)
    items, apart = 6.0 * generator.standard_normal(500), planted + 1.5 * generator.standard_normal(500)
    return items + apart / 2, items - apart / 2


def test_a_planted_fifth_of_a_decibel_is_found_by_pairs_alone() -> None:
    """results/planted-difference.json has the rates of 200 repetitions: 87 % against none."""
    paired, unpaired, false = 0, 0, 0
    for seed in range(40):
        planted, null = two_systems(0.2, seed), two_systems(0.0, seed)
        paired += paired_difference(*planted, resamples=300).excludes_zero()
        unpaired += unpaired_difference(*planted, resamples=300, seed=seed).excludes_zero()
        false += paired_difference(*null, resamples=300).excludes_zero()
    assert paired >= 28
    assert unpaired <= 2
    assert false <= 6


def test_unpaired_intervals_hold_the_truth_where_nothing_is_shared() -> None:
    rng, hits = np.random.default_rng(3), 0
    for seed in range(100):
        first, second = rng.normal(1.0, 2.0, 60), rng.normal(0.0, 1.0, 90)
        interval = unpaired_difference(first, second, resamples=300, seed=seed)
        hits += interval.low <= 1.0 <= interval.high
    assert hits >= 88
    assert (interval.n, interval.n_clusters) == (60, 60)
    assert interval.mean == pytest.approx(first.mean() - second.mean())


def test_unpaired_leaves_out_what_is_not_defined_and_keeps_clusters() -> None:
    names = (["a", "a", "b"], ["c", "d"])
    interval = unpaired_difference([1.0, math.nan, 3.0], [0.0, 1.0], clusters=names, resamples=50)
    assert (interval.mean, interval.n, interval.n_clusters) == (1.5, 2, 2)
    assert math.isnan(unpaired_difference([], [1.0]).mean)
    with pytest.raises(ValueError, match="level"):
        unpaired_difference([1.0], [1.0], level=1.5)
