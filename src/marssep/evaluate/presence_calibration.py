"""Whether presence would be more truthful with a slope and offset for every kind of query (Platt's scaling).

Fitted on one run (validation), judged on another (test), present and absent queries weighing half each in both, as they
do in the regression behind presence: how often people ask for what is not there is not ours to know.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from marssep.errors import InputError
from marssep.evaluate.report.counting import N_BINS
from marssep.evaluate.report.items import Series, with_presence
from marssep.evaluate.report.run import Run
from marssep.metrics import mean_interval

_EDGE = 1e-6  # presence is held so far from 0 and 1 where its log-odds are taken


@dataclass(frozen=True, slots=True)
class Platt:
    """Log-odds to log-odds: `slope * x + offset`; slope 1 and offset 0 leave presence as it is."""

    slope: float
    offset: float

    def __call__(self, presence: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Presence after the scaling."""
        made: np.ndarray = 1.0 / (1.0 + np.exp(-(self.slope * _logit(presence) + self.offset)))
        return made


def fit_platt(presence: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> Platt:
    """Least logistic loss; both kinds of query count the same in total.

    Args:
        presence: probabilities.
        truth: whether each sound is there; both kinds must occur.
    """
    logit, weight, sign = _logit(presence), balanced(truth), np.where(truth, -1.0, 1.0)

    def loss(parameters: Float[np.ndarray, " 2"]) -> float:
        return float((weight * np.logaddexp(0.0, sign * (parameters[0] * logit + parameters[1]))).sum())

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    return Platt(float(slope), float(offset))


def balanced(truth: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Weights that sum to one, half of it for each kind."""
    made: np.ndarray = np.where(truth, 0.5 / max(1, truth.sum()), 0.5 / max(1, (~truth).sum()))
    return made


def calibration_record(fitted_on: Run, run: Run) -> dict[str, Any]:
    """For every kind of query: slope and offset by one run; how truthful presence is in the other, before and after.

    Raises:
        InputError: if a run has no scores or the two share no kind of query that both present and absent sounds have.
    """
    if fitted_on.results.mixtures.sha256 == run.results.mixtures.sha256:
        raise InputError(f"{fitted_on.folder}: a calibration must be fitted on another list than it is judged on.")
    other = {series.modality: series for series in fitted_on.main_series()}
    rows = {}
    for series in run.main_series():
        if series.modality in other:
            learned, judged = _gather(fitted_on, other[series.modality]), _gather(run, series)
            if learned is not None and judged is not None:
                rows[str(series.modality)] = _row(fit_platt(learned[0], learned[1]), *judged)
    if not rows:
        raise InputError(
            f"{fitted_on.folder}: has no kind of query with present and absent sounds that {run.folder} has too; score "
            "both lists with 'marssep evaluate'."
        )
    return {"fitted_on": fitted_on.results.mixtures.model_dump(mode="json"), "queries": rows}


def _row(scaling: Platt, presence: np.ndarray, truth: np.ndarray, mixtures: list[str]) -> dict[str, Any]:
    weight, scaled = balanced(truth), scaling(presence)
    # One mean over queries must be the balanced score, so each term is weighed before.
    change = (np.square(scaled - truth) - np.square(presence - truth)) * weight * len(truth)
    interval = mean_interval(change, mixtures)
    return {
        "slope": round(scaling.slope, 4),
        "offset": round(scaling.offset, 4),
        "brier": [round(_brier(each, truth, weight), 4) for each in (presence, scaled)],
        "calibration_error": [round(_error(each, truth, weight), 4) for each in (presence, scaled)],
        "brier_change": [round(each, 4) for each in (interval.mean, interval.low, interval.high)],
    }


def _gather(run: Run, series: Series) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
    scores = run.table()
    there, gone = (with_presence(rows) for rows in (scores.present(series), scores.absent(series)))
    if not there or not gone:
        return None
    rows = [*there, *gone]
    truth = np.arange(len(rows)) < len(there)
    return np.array([row.value("presence") for row in rows]), truth, [row.key[0] for row in rows]


def _logit(presence: np.ndarray) -> np.ndarray:
    held = presence.clip(_EDGE, 1.0 - _EDGE)
    made: np.ndarray = np.log(held) - np.log1p(-held)
    return made


def _brier(presence: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * np.square(presence - truth)).sum())


def _error(presence: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    bins = np.minimum((presence * N_BINS).astype(int), N_BINS - 1)
    return float(np.abs(np.bincount(bins, weight * (presence - truth), N_BINS)).sum())
