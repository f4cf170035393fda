"""What the analysis says of answers whose truth is known."""

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from marssep.evaluate.listening.agreement import krippendorff_alpha
from marssep.evaluate.listening.analysis import ScoreTable, analyse_scores, screen
from marssep.evaluate.listening.preference import analyse_preferences, bradley_terry
from marssep.evaluate.listening.report import holm
from marssep.evaluate.listening.store import Preference
from marssep.evaluate.listening.study import ANCHOR, REFERENCE
from marssep.metrics.crossed import crossed_interval

_ = math.nan


def table(reference: list[float], anchor: list[float], system: list[float]) -> ScoreTable:
    scores = np.stack([reference, anchor, system], axis=-1)[None].astype(float)
    items = tuple(f"item-{number}" for number in range(len(reference)))
    return ScoreTable(("anna",), items, (REFERENCE, ANCHOR, "model"), scores)


def test_alpha_of_the_example_of_krippendorff_2011() -> None:
    """Four observers, twelve units, gaps; interval metric: 0.849 (section D of the paper)."""
    scores = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
            [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
        ],
        dtype=float,
    )
    assert krippendorff_alpha(scores) == pytest.approx(0.849, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])) == 1.0
    assert krippendorff_alpha(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])) < 0.0
    assert math.isnan(krippendorff_alpha(np.array([[1.0, _], [_, 2.0]])))
    assert math.isnan(krippendorff_alpha(np.full((3, 3), 5.0)))


def test_crossed_intervals_hold_the_truth() -> None:
    """Raters and items drawn from a population of mean 0; taking all answers as independent misses it often."""
    generator = np.random.default_rng(5)
    held = alone = 0
    for _run in range(200):
        values = generator.normal(size=(12, 1)) + generator.normal(size=(1, 12)) + generator.normal(size=(12, 12))
        interval = crossed_interval(values, resamples=400)
        held += interval.low <= 0.0 <= interval.high
        half = 1.96 * values.std() / 12.0
        alone += abs(values.mean()) <= half
    assert held >= 180
    assert alone <= 140


def test_a_mean_without_an_interval_where_there_is_one_rater() -> None:
    interval = crossed_interval(np.array([[1.0, _, 3.0]]))
    assert (interval.mean, interval.n) == (2.0, 2)
    assert math.isnan(interval.low)
    assert crossed_interval(np.full((2, 2), _)).n == 0
    with pytest.raises(ValueError, match="level"):
        crossed_interval(np.ones((2, 2)), level=1.0)


def test_screening_counts_as_the_recommendation_does() -> None:
    """More than 15 % of the items: 3 of 20 are borne, 4 are not; 90 itself is high enough."""
    fine = screen(table([89] * 3 + [90] * 17, [10] * 20, [50] * 20), "anna")
    assert (fine.excluded, fine.reference_below_90) == (None, 3)
    deaf = screen(table([89] * 4 + [100] * 16, [10] * 20, [50] * 20), "anna")
    assert deaf.excluded == "hidden reference below 90 on 4 of 20 pages"
    generous = screen(table([100] * 20, [91] * 4 + [90] * 16, [50] * 20), "anna")
    assert generous.excluded == "anchor above 90 on 4 of 20 pages"


def test_pages_not_answered_yet_do_not_count() -> None:
    row = screen(table([100, 100, _], [10, 10, _], [50, 50, _]), "anna")
    assert (row.pages, row.excluded) == (2, None)


def test_a_study_of_nobody_worth_hearing_has_no_means() -> None:
    report = analyse_scores(table([0, 0], [0, 0], [50, 50]))
    assert report.n_kept == 0
    assert [row.score.mean for row in report.scores] == [None, None, None]
    assert (report.alpha_all, report.anchor.lowest) == (None, None)
    assert "no rater passed the screening" in "\n".join(report.lines())
    assert "Left out: anna" in "\n".join(report.lines())


def test_an_anchor_above_a_system_is_told() -> None:
    report = analyse_scores(table([100, 100], [60, 60], [50, 50]))
    assert not report.anchor.lowest
    assert report.anchor.reference_highest
    assert "the anchor is not below every system" in "\n".join(report.lines())


def test_bradley_terry_finds_strengths() -> None:
    true = np.array([1.0, 0.2, -1.2])
    odds = np.exp(true[:, None] - true[None])
    wins = 1e7 * odds / (1.0 + odds) * (1.0 - np.eye(3))
    np.testing.assert_allclose(bradley_terry(wins[None])[0], true, atol=1e-5)


def test_who_was_never_beaten_has_a_finite_strength() -> None:
    found = bradley_terry(np.array([[[0.0, 10.0], [0.0, 0.0]]]))[0]
    assert found[0] - found[1] == pytest.approx(math.log(10.5 / 0.5))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_preferences_are_counted_whichever_side_they_were_on() -> None:
    answers = [
        Preference("anna", "1", "x", "y", "a", ""),
        Preference("anna", "2", "y", "x", "b", ""),
        Preference("bert", "1", "y", "x", "a", ""),
        Preference("bert", "2", "x", "y", "none", ""),
    ]
    report = analyse_preferences(answers, systems=("x", "y"))
    pair = report.pairs[0]
    assert (pair.preferred_first, pair.preferred_second, pair.no_preference) == (2, 1, 1)
    assert pair.share_first.mean == pytest.approx(2 / 3)
    assert pair.sign_test_p == 1.0
    assert report.share_a.mean == pytest.approx(2 / 3)
    assert report.strengths[0].system == "x"


def test_simulated_raters_are_understood(simulation: ModuleType, tmp_path: Path) -> None:
    found = simulation.simulate(tmp_path, n_raters=5, n_items=4, seed=7)
    scores = found["mushra"]
    assert list(scores["excluded"]) == ["careless"]
    assert list(scores["recovered"]) == ["reference", "clean", "leaky", "muddy", "anchor"]
    true = scores["true"]
    for row in scores["differences"]:  # what a rater is too kind by falls out of a difference
        assert row["difference"]["low"] < true[row["first"]] - true[row["second"]] < row["difference"]["high"]
    assert scores["anchor"]["lowest"]
    assert scores["alpha_systems"] > 0.7
    ab = found["ab"]
    assert list(ab["recovered"]) == ["clean", "leaky", "muddy"]
    for system, expected in ab["expected_strength"].items():
        assert ab["recovered"][system]["low"] < expected < ab["recovered"][system]["high"]
    assert ab["share_a"]["low"] < 0.5 < ab["share_a"]["high"]
