"""From choices between two to a scale: shares, sign tests and the Bradley-Terry model."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from marssep.evaluate.listening.report import Estimate, PairRow, PreferenceReport, StrengthRow, holm
from marssep.evaluate.listening.store import Preference
from marssep.metrics import Interval, share_interval
from marssep.metrics.crossed import crossed_weights
from marssep.metrics.intervals import LEVEL

_ROUNDS = 2000
_TOLERANCE = 1e-9


def analyse_preferences(
    preferences: Sequence[Preference], *, systems: Sequence[str], seed: int = 0
) -> PreferenceReport:
    """Shares of each pair, and all systems on one scale with bootstrap intervals over raters and items."""
    pairs = [_pair(preferences, first, second) for first, second in itertools.combinations(systems, 2)]
    tested = [row for row in pairs if row.sign_test_p is not None]
    corrected = iter(holm([row.sign_test_p for row in tested if row.sign_test_p is not None]))
    pairs = [
        row if row.sign_test_p is None else row.model_copy(update={"sign_test_p_holm": next(corrected)})
        for row in pairs
    ]
    sides = [one.choice == "a" for one in preferences if one.choice != "none"]
    strengths = _strengths(preferences, systems, seed)
    ranked = sorted(systems, key=lambda system: -strengths[system].mean)
    return PreferenceReport(
        n_items=len({one.item for one in preferences}),
        n_raters=len({one.rater for one in preferences}),
        n_answers=len(preferences),
        pairs=pairs,
        strengths=[StrengthRow(system=system, strength=Estimate.of(strengths[system])) for system in ranked],
        share_a=Estimate.of(share_interval(sides)),
        seed=seed,
    )


def bradley_terry(wins: Float[np.ndarray, "draws systems systems"]) -> Float[np.ndarray, "draws systems"]:
    """Log-strengths of the Bradley-Terry model, mean 0: the odds of i against j are exp(strength_i - strength_j).

    Maximised by Hunter's minorise-maximise steps (Annals of Statistics 32(1), 2004), for all draws at once. Half a win
    each way between every two systems is added, so that a system that was never beaten has a finite strength too.

    Args:
        wins: how often the first index was preferred to the second; "no preference" is half a win for both.
    """
    n = wins.shape[-1]
    wins = wins + 0.5 * (1.0 - np.eye(n))
    met = wins + wins.transpose(0, 2, 1)
    won = wins.sum(axis=2)
    strength = np.ones(won.shape)
    for _ in range(_ROUNDS):
        risk = (met / (strength[:, :, None] + strength[:, None, :])).sum(axis=2)
        better = won / risk
        better /= np.exp(np.log(better).mean(axis=1, keepdims=True))
        moved = float(np.abs(np.log(better / strength)).max())
        strength = better
        if moved < _TOLERANCE:
            break
    return np.log(strength)


def _pair(preferences: Sequence[Preference], first: str, second: str) -> PairRow:
    from scipy.stats import binomtest

    chosen = [_winner(one) for one in preferences if {one.system_a, one.system_b} == {first, second}]
    ours, theirs = chosen.count(first), chosen.count(second)
    p = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else None
    return PairRow(
        first=first,
        second=second,
        preferred_first=ours,
        preferred_second=theirs,
        no_preference=chosen.count(None),
        share_first=Estimate.of(share_interval([True] * ours + [False] * theirs)),
        sign_test_p=p,
        sign_test_p_holm=None,
    )


def _winner(one: Preference) -> str | None:
    return {"a": one.system_a, "b": one.system_b}.get(one.choice)


def _strengths(preferences: Sequence[Preference], systems: Sequence[str], seed: int) -> dict[str, Interval]:
    raters = sorted({one.rater for one in preferences})
    items = sorted({one.item for one in preferences})
    wins = np.zeros((len(preferences), len(systems), len(systems)))
    for index, one in enumerate(preferences):
        a, b = systems.index(one.system_a), systems.index(one.system_b)
        share = {"a": 1.0, "b": 0.0, "none": 0.5}[one.choice]
        wins[index, a, b], wins[index, b, a] = share, 1.0 - share
    mean = bradley_terry(wins.sum(axis=0)[None])[0]
    low = high = np.full(len(systems), np.nan)
    if min(len(raters), len(items)) > 1:
        rows, columns = crossed_weights(len(raters), len(items), seed=seed)
        weight = (
            rows[:, [raters.index(one.rater) for one in preferences]]
            * columns[:, [items.index(one.item) for one in preferences]]
        )
        drawn = bradley_terry(np.einsum("da,aij->dij", weight, wins))
        low, high = np.quantile(drawn, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0], axis=0)
    met = [sum(system in (one.system_a, one.system_b) for one in preferences) for system in systems]
    clusters = min(len(raters), len(items))
    return {
        system: Interval(float(mean[at]), float(low[at]), float(high[at]), met[at], clusters)
        for at, system in enumerate(systems)
    }
