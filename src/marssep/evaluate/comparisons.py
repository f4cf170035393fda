"""Any two systems over the same queries, and every system by how loud the target was in the mixture."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from marssep.evaluate.results import ComparisonRow, Figure, Modality, StratumRow
from marssep.evaluate.scores import Score, column
from marssep.metrics import Interval

Table = Mapping[tuple[str, Modality | None], Sequence[Score]]
"""Scores of present sounds by system and kind of query."""

Difference = Callable[[np.ndarray, np.ndarray, list[str]], Interval]
"""(first, second, mixtures) -> paired interval of first - second."""


def comparisons(table: Table, difference: Difference) -> list[ComparisonRow]:
    """Mean SI-SDRi of every system minus that of every later one; one that sees no query is compared by every kind."""
    keyed = {name: {score.key: score for score in scores} for name, scores in table.items()}
    rows = []
    for (first, ours), (second, theirs) in itertools.combinations(keyed, 2):
        if first == second or (ours is not None and theirs is not None and ours != theirs):
            continue
        one, other = keyed[first, ours], keyed[second, theirs]
        shared = [key for key in one if key in other]
        if not shared:
            continue
        interval = difference(
            column((one[key] for key in shared), "si_sdr_improvement_db"),
            column((other[key] for key in shared), "si_sdr_improvement_db"),
            [key[0] for key in shared],
        )
        row = ComparisonRow(first=first, second=second, modality=ours or theirs, difference_db=Figure.of(interval))
        rows.append(row)
    return rows


def strata(table: Table, edges: Sequence[float], figure: Callable[[Sequence[Score]], Figure]) -> Iterator[StratumRow]:
    """Every system on the queries whose target has an input SNR in [low, high); empty strata are left out."""
    bounds = [-np.inf, *edges, np.inf]
    for (system, modality), scores in table.items():
        level = column(scores, "input_snr_db")
        for low, high in itertools.pairwise(bounds):
            chosen = [score for score, value in zip(scores, level, strict=True) if low <= value < high]
            if chosen:
                yield StratumRow(
                    system=system,
                    modality=modality,
                    low_db=float(low) if np.isfinite(low) else None,
                    high_db=float(high) if np.isfinite(high) else None,
                    si_sdr_improvement_db=figure(chosen),
                )
