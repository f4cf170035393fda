"""The threshold of presence: how many absent sounds are rejected against how much of the present ones is kept."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from marssep.errors import UsageError
from marssep.evaluate.results import Modality
from marssep.evaluate.scores import Score, column
from marssep.runtime.hearing import EvidenceWeights
from marssep.separate.presence import Evidence

REJECTED_GOAL = 0.90
KEPT_GOAL = 0.95
LOWEST_THRESHOLD = 0.01
"""Of quiet targets: digital silence, whose presence is 0, is never taken for a sound."""


@dataclass(frozen=True, slots=True)
class Roc:
    """Every threshold worth trying and what it gives; `kept` falls and `rejected` rises along the axis.

    Attributes:
        threshold: presence below it is taken as absent.
        kept: share of the present sounds' improvement that is kept (`kept_gain`).
        rejected: share of absent queries that are answered with (near) silence.
        area: probability that a present query scores above an absent one (0.5 is chance), the area under the ROC curve.
    """

    threshold: Float[np.ndarray, " k"]
    kept: Float[np.ndarray, " k"]
    rejected: Float[np.ndarray, " k"]
    area: float


@dataclass(frozen=True, slots=True)
class PresenceChoice:
    """The chosen thresholds and what they give on the data they were chosen on."""

    threshold: float
    kept: float
    rejected: float
    meets_goals: bool
    area: float
    n_present: int
    n_absent: int
    quiet_threshold: float | None = None
    n_quiet: int = 0


def kept_gain(gain: ArrayLike, rejected: ArrayLike) -> Float[np.ndarray, "*n"]:
    """SI-SDRi as a user meets it when the gate may reject: min(SI-SDRi, 0) for a rejected query.

    SI-SDR does not see level, so an estimate that the gate turned down to nothing would keep its full score although
    nobody hears it: counting that would reward rejecting everything. Rejection delivers nothing, hence 0 dB; and a
    separation that did harm keeps its negative score, so that rejecting it does not pass for a gain.

    Args:
        gain: SI-SDRi of each present query without the gate, dB.
        rejected: whether the gate rejects it.
    """
    gain = np.asarray(gain, dtype=np.float64)
    return np.where(np.asarray(rejected, dtype=bool), np.minimum(gain, 0.0), gain)


def roc(
    present: ArrayLike, absent: ArrayLike, *, gain: ArrayLike | None = None, suppressed: ArrayLike | None = None
) -> Roc:
    """Kept and rejected shares at every threshold between two neighbouring scores.

    Args:
        present: presence scores of queries whose sound is in the mixture.
        absent: presence scores of queries whose sound is not.
        gain: SI-SDRi of the present queries in dB; None counts every present query alike.
        suppressed: whether the mask alone already silenced the absent query (15 dB or more below the mixture).

    Raises:
        ValueError: if either list is empty or lengths differ.
    """
    present, absent = np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)
    gains = np.ones_like(present) if gain is None else np.asarray(gain, dtype=np.float64)
    silenced = np.zeros(absent.shape, dtype=bool) if suppressed is None else np.asarray(suppressed, dtype=bool)
    if present.size == 0 or absent.size == 0 or gains.shape != present.shape or silenced.shape != absent.shape:
        raise ValueError(
            f"a threshold needs present and absent scores, each with its gain or suppression: got {present.size} "
            f"scores with {gains.size} gains and {absent.size} scores with {silenced.size} suppressions."
        )
    scores = np.unique(np.concatenate([present, absent]))
    middle = (scores[1:] + scores[:-1]) / 2.0
    threshold = np.concatenate([[min(0.0, scores[0])], middle, [math.nextafter(scores[-1], math.inf)]])
    kept = kept_gain(gains[None], present[None] < threshold[:, None]).sum(1)
    total = gains.sum()
    rejected = (silenced[None] | (absent[None] < threshold[:, None])).mean(1)
    below = (absent[None] < present[:, None]).mean() + 0.5 * (absent[None] == present[:, None]).mean()
    return Roc(threshold, kept / total if total else np.full_like(kept, np.nan), rejected, float(below))


def fit_evidence(evidence: Sequence[Evidence], present: ArrayLike) -> EvidenceWeights:
    """Logistic regression of presence on what speaks for it, present and absent queries counting the same in total.

    Args:
        evidence: of each query; none of digital silence.
        present: whether each sound is there.
    """
    columns = np.array([[each.network, *dataclasses.astuple(each.heard)] for each in evidence]).T
    there = np.asarray(present, dtype=bool)
    centre, spread = columns.mean(1, keepdims=True), columns.std(1, keepdims=True).clip(1e-9)
    scaled = (columns - centre) / spread
    weight = np.where(there, 0.5 / max(1, there.sum()), 0.5 / max(1, (~there).sum()))
    sign = np.where(there, -1.0, 1.0)

    def loss(parameters: Float[np.ndarray, " k"]) -> float:
        logit = parameters[0] + parameters[1:] @ scaled
        # A little ridge keeps the weights finite where the two kinds are told apart perfectly.
        return float((weight * np.logaddexp(0.0, sign * logit)).sum() + 1e-3 * np.square(parameters[1:]).sum())

    bias, *slopes = minimize(loss, np.zeros(1 + len(columns)), method="BFGS").x
    raw = np.array(slopes) / spread[:, 0]
    return EvidenceWeights(float(bias - raw @ centre[:, 0]), *raw.tolist())


def choose_threshold(
    present: ArrayLike,
    absent: ArrayLike,
    *,
    gain: ArrayLike | None = None,
    suppressed: ArrayLike | None = None,
    rejected_goal: float = REJECTED_GOAL,
    kept_goal: float = KEPT_GOAL,
) -> PresenceChoice:
    """Threshold with the best worse-off goal, each margin measured in its own allowance (10 % and 5 % by default).

    Where some threshold meets both goals, the one with most room to spare is chosen; where none does, the one that
    misses by least. Choose on a validation list and report on another.

    Args:
        present: as in `roc`.
        absent: as in `roc`.
        gain: as in `roc`.
        suppressed: as in `roc`.
        rejected_goal: wanted share of absent queries rejected, in (0, 1).
        kept_goal: wanted share of SI-SDRi kept, in (0, 1).

    Raises:
        ValueError: if either list is empty or lengths differ.
    """
    curve = roc(present, absent, gain=gain, suppressed=suppressed)
    margin = np.minimum(
        (curve.rejected - rejected_goal) / (1.0 - rejected_goal), (curve.kept - kept_goal) / (1.0 - kept_goal)
    )
    best = int(np.nanargmax(margin)) if np.isfinite(margin).any() else 0
    return PresenceChoice(
        threshold=float(curve.threshold[best]),
        kept=float(curve.kept[best]),
        rejected=float(curve.rejected[best]),
        meets_goals=bool(curve.rejected[best] >= rejected_goal and curve.kept[best] >= kept_goal),
        area=curve.area,
        n_present=np.asarray(present).size,
        n_absent=np.asarray(absent).size,
    )


def choose_quiet_threshold(present: ArrayLike, gain: ArrayLike, *, kept_goal: float = KEPT_GOAL) -> float:
    """The highest threshold under which quiet targets of sounds that are there keep enough of their improvement.

    Args:
        present: presence of those whose target is quiet.
        gain: SI-SDRi of each, dB.
        kept_goal: wanted share of it, in (0, 1).

    Returns:
        at least `LOWEST_THRESHOLD`, which is also the answer if there are none.
    """
    scores = np.asarray(present, dtype=np.float64)
    if not scores.size:
        return LOWEST_THRESHOLD
    curve = roc(scores, [0.0], gain=gain)
    return max(LOWEST_THRESHOLD, float(curve.threshold[curve.kept >= kept_goal].max(initial=0.0)))


def choose_from_scores(
    scores: Sequence[Score], *, modality: Modality = "text", absent_level_db: float = 15.0
) -> PresenceChoice:
    """Thresholds for a model from its scores on a validation list (`Report.scores`).

    That of quiet targets comes first, by what the sounds that are there lose; for the absent ones it does not matter,
    since their targets are quiet enough. Then that of all others.

    Args:
        scores: of one evaluation; presence and suppression in them are without a gate.
        modality: kind of query whose presence is looked at.
        absent_level_db: an absent sound whose target lies this far below the mixture needs no gate; a target is quiet
            if it lies this far below the mixture wherever it is loudest.

    Raises:
        UsageError: if the list has no present or no absent queries of this kind.
    """
    ours = [score for score in scores if score.system == "model" and score.modality == modality]
    present = [score for score in ours if score.present and np.isfinite(score.si_sdr_improvement_db)]
    absent = [score for score in ours if not score.present]
    if not present or not absent:
        raise UsageError(
            f"a presence threshold needs present and absent queries by {modality}: the list has {len(present)} and "
            f"{len(absent)}; choose it on a list that has both."
        )
    heard, gain = column(present, "presence"), column(present, "si_sdr_improvement_db")
    quiet = column(present, "loudest_db") <= -absent_level_db
    low = choose_quiet_threshold(heard[quiet], gain[quiet])
    chosen = choose_threshold(
        # What becomes of quiet targets is settled: below and above every threshold there can be.
        np.where(quiet, np.where(heard < low, -1.0, 2.0), heard),
        column(absent, "presence"),
        gain=gain,
        suppressed=column(absent, "suppression_db") >= absent_level_db,
    )
    area = roc(heard, column(absent, "presence")).area
    low = min(low, chosen.threshold)
    return dataclasses.replace(chosen, area=area, quiet_threshold=low, n_quiet=int(quiet.sum()))
