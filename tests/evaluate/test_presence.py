"""The threshold of presence: the curve by hand, the rule of choice, and what rejection costs."""

import numpy as np
import pytest

from marssep.evaluate import choose_threshold, kept_gain, roc
from marssep.evaluate.presence import (
    LOWEST_THRESHOLD,
    choose_from_scores,
    choose_quiet_threshold,
    fit_evidence,
)
from marssep.evaluate.scores import Score, column
from marssep.model import ModelConfig
from marssep.runtime.hearing import Heard
from marssep.separate.presence import Evidence, Gate


def test_a_rejected_query_scores_no_more_than_nothing() -> None:
    gains = kept_gain([8.0, 8.0, -3.0, -3.0], [False, True, False, True])
    assert gains.tolist() == [8.0, 0.0, -3.0, -3.0]


def test_roc_by_hand() -> None:
    curve = roc([0.4, 0.8, 0.9], [0.1, 0.5])
    assert curve.threshold[:-1].tolist() == pytest.approx([0.0, 0.25, 0.45, 0.65, 0.85])
    assert curve.kept.tolist() == pytest.approx([1.0, 1.0, 2 / 3, 2 / 3, 1 / 3, 0.0])
    assert curve.rejected.tolist() == pytest.approx([0.0, 0.5, 0.5, 1.0, 1.0, 1.0])
    assert curve.area == pytest.approx(5 / 6)


def test_curves_are_monotone_and_reach_both_ends() -> None:
    rng = np.random.default_rng(0)
    curve = roc(rng.beta(4, 2, 200), rng.beta(2, 4, 100))
    assert (np.diff(curve.threshold) > 0).all()
    assert (np.diff(curve.kept) <= 0).all()
    assert (np.diff(curve.rejected) >= 0).all()
    assert (curve.kept[0], curve.rejected[0], curve.kept[-1], curve.rejected[-1]) == (1.0, 0.0, 0.0, 1.0)


def test_both_goals_are_met_with_room_to_spare() -> None:
    choice = choose_threshold([0.7, 0.8, 0.9] * 10, [0.1, 0.2, 0.3] * 10)
    assert choice.meets_goals
    assert (choice.kept, choice.rejected, choice.area) == (1.0, 1.0, 1.0)
    assert 0.3 < choice.threshold < 0.7
    assert (choice.n_present, choice.n_absent) == (30, 30)


def test_where_no_threshold_meets_both_the_smallest_miss_is_chosen() -> None:
    rng = np.random.default_rng(0)
    present, absent = rng.normal(1.0, 1.0, 2000), rng.normal(0.0, 1.0, 2000)
    choice = choose_threshold(present, absent)
    assert not choice.meets_goals
    # equal misses, each in its own allowance: 0.90 - rejected over 0.10 against 0.95 - kept over 0.05
    assert (0.90 - choice.rejected) / 0.10 == pytest.approx((0.95 - choice.kept) / 0.05, abs=0.05)


def test_cheap_rejections_are_preferred() -> None:
    # The present sound that scores like an absent one was not helped anyway: rejecting it costs nothing.
    present, gain = [0.2, 0.8, 0.9], [0.0, 10.0, 10.0]
    absent = [0.1, 0.25, 0.3]
    assert not choose_threshold(present, absent).meets_goals
    choice = choose_threshold(present, absent, gain=gain)
    assert choice.meets_goals
    assert choice.threshold > 0.3


def test_what_the_mask_silenced_needs_no_gate() -> None:
    choice = choose_threshold([0.2, 0.3], [0.9, 0.1], suppressed=[True, False])
    assert choice.meets_goals
    assert 0.1 < choice.threshold < 0.2


def test_refuses() -> None:
    with pytest.raises(ValueError, match="needs present and absent"):
        choose_threshold([], [0.1])
    with pytest.raises(ValueError, match="2 scores with 1 gains"):
        roc([0.1, 0.2], [0.1], gain=[1.0])


def test_fitted_evidence_tells_the_two_kinds_apart() -> None:
    rng = np.random.default_rng(0)
    present = np.arange(400) % 4 != 0
    network, match = rng.normal(present, 1.0), rng.normal(0.5 * present, 0.2)
    spread, rival = rng.normal(0.0, 0.1, 400), rng.normal(-0.2 * present, 0.2)
    columns = zip(network, match, spread, rival, strict=True)
    weights = fit_evidence([Evidence(logit, Heard(*rest)) for logit, *rest in columns], present)
    logit = weights.bias + weights.network * network + weights.match * match
    logit += weights.spread * spread + weights.rival * rival
    assert np.mean((logit > 0) == present) > 0.85
    # The optimum of normal classes: difference of means over variance, 1 / 1 and 0.5 / 0.04.
    assert 0.5 < weights.network < 1.5
    assert 8.0 < weights.match < 18.0
    assert -9.0 < weights.rival < -2.0
    assert abs(weights.spread) < 5.0


def test_quiet_targets_have_a_threshold_of_their_own() -> None:
    gate = Gate(threshold=0.5, quiet_threshold=0.1, quiet_db=15.0, attenuation_db=40.0)
    assert gate.closed([0.3, 0.3, 0.05, 0.3], [0.0, -15.0, -20.0, np.nan]).tolist() == [True, False, True, True]
    config = ModelConfig(presence_threshold=0.5, quiet_threshold=0.1)
    assert Gate.of(config) == gate
    assert Gate.of(config, threshold=0.7).quiet_threshold == 0.7
    assert Gate.of(ModelConfig(presence_threshold=0.5)).quiet_threshold == 0.5


def test_the_quiet_threshold_is_the_highest_that_keeps_enough() -> None:
    presence, gain = np.linspace(0.05, 0.95, 10), np.ones(10)
    assert choose_quiet_threshold(presence, gain, kept_goal=0.8) == pytest.approx(0.2)
    assert choose_quiet_threshold(presence, gain, kept_goal=0.95) == pytest.approx(0.025)
    assert choose_quiet_threshold([], []) == LOWEST_THRESHOLD
    assert choose_quiet_threshold([0.001], [1.0]) == LOWEST_THRESHOLD


def _score(query: int, *, present: bool, presence: float, level: float, gain: float = 5.0) -> Score:
    return Score(
        mixture=f"{query}", query=0, present=present, label="dog", group="", system="model", modality="text",
        presence=presence, loudest_db=level, suppression_db=-level, si_sdr_improvement_db=gain if present else np.nan,
    )  # fmt: skip


def test_thresholds_of_a_list_leave_quiet_sounds_alone() -> None:
    """A tenth of the sounds that are there is quiet and hardly recognised; one threshold has to give them up."""
    loud = [_score(n, present=True, presence=0.8 + 0.001 * n, level=-3.0) for n in range(90)]
    quiet = [_score(100 + n, present=True, presence=0.2 + 0.01 * n, level=-20.0) for n in range(10)]
    absent = [_score(200 + n, present=False, presence=0.3 + 0.01 * n, level=-10.0) for n in range(40)]
    scores = [*loud, *quiet, *absent]
    chosen = choose_from_scores(scores)
    assert (chosen.kept, chosen.rejected, chosen.n_quiet) == (1.0, 1.0, 10)
    assert 0.69 < chosen.threshold < 0.8
    assert chosen.quiet_threshold is not None
    assert LOWEST_THRESHOLD <= chosen.quiet_threshold < 0.2
    assert chosen.area < 1.0  # of all scores as they are
    gate = Gate(chosen.threshold, chosen.quiet_threshold, 15.0, 40.0)
    closed = gate.closed(column(scores, "presence"), column(scores, "loudest_db"))
    assert closed.tolist() == [False] * 100 + [True] * 40
    one = choose_threshold(column([*loud, *quiet], "presence"), column(absent, "presence"))
    assert one.kept == pytest.approx(0.9)
