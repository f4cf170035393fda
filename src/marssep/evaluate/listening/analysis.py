"""From answers to findings; answers are read and never altered, and who is left out is said."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from marssep.errors import InputError
from marssep.evaluate.listening.agreement import krippendorff_alpha
from marssep.evaluate.listening.preference import analyse_preferences
from marssep.evaluate.listening.report import (
    AnchorCheck,
    DifferenceRow,
    Estimate,
    MushraReport,
    PreferenceReport,
    RaterRow,
    ScoreRow,
    known,
)
from marssep.evaluate.listening.store import Score, Store
from marssep.evaluate.listening.study import ANCHOR, REFERENCE
from marssep.metrics.crossed import crossed_interval

HIGH = 90.0
"""BS.1534-3, post-screening: the hidden reference should get no less, an anchor no more."""
MOST_MISSES = 0.15
"""Share of items on which that may fail before a rater is left out."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores as a table, NaN where a rater has not been yet.

    Attributes:
        raters: names, along the first axis.
        items: names, along the second.
        stimuli: names, along the third.
        scores: 0 to 100.
    """

    raters: tuple[str, ...]
    items: tuple[str, ...]
    stimuli: tuple[str, ...]
    scores: Float[np.ndarray, "raters items stimuli"]

    def of(self, stimulus: str) -> Float[np.ndarray, "raters items"]:
        """The scores of one stimulus."""
        return self.scores[:, :, self.stimuli.index(stimulus)]

    def only(self, raters: Sequence[str]) -> "ScoreTable":
        """The same with these raters alone."""
        rows = [self.raters.index(rater) for rater in raters]
        return ScoreTable(tuple(raters), self.items, self.stimuli, self.scores[rows])


def analyse(store: Store, *, seed: int = 0) -> MushraReport | PreferenceReport:
    """Analyse a study, finished or not.

    Args:
        store: the answers.
        seed: of the bootstrap.

    Raises:
        InputError: if there are no answers.
    """
    if store.study.kind == "ab":
        preferences = store.preferences()
        if not preferences:
            raise InputError(f"{store.path}: holds no answers yet; collect some with 'marssep listen serve'.")
        return analyse_preferences(preferences, systems=store.study.systems, seed=seed)
    scores = store.scores()
    if not scores:
        raise InputError(f"{store.path}: holds no answers yet; collect some with 'marssep listen serve'.")
    return analyse_scores(score_table(scores, stimuli=store.study.stimuli), seed=seed)


def score_table(scores: Sequence[Score], *, stimuli: Sequence[str]) -> ScoreTable:
    """Arrange scores as a table."""
    raters = tuple(dict.fromkeys(score.rater for score in scores))
    items = tuple(sorted({score.item for score in scores}))
    table = np.full((len(raters), len(items), len(stimuli)), np.nan)
    for score in scores:
        table[raters.index(score.rater), items.index(score.item), list(stimuli).index(score.stimulus)] = score.score
    return ScoreTable(raters, items, tuple(stimuli), table)


def analyse_scores(table: ScoreTable, *, seed: int = 0) -> MushraReport:
    """Screen raters, then means, paired differences, anchor check and agreement of those who are kept."""
    rows = [screen(table, rater) for rater in table.raters]
    kept = table.only([row.rater for row in rows if row.excluded is None])
    means = {name: crossed_interval(kept.of(name), seed=seed) for name in table.stimuli}
    systems = [name for name in table.stimuli if name not in (REFERENCE, ANCHOR)]
    ranked = sorted(systems, key=lambda name: -np.nan_to_num(means[name].mean))
    differences = [
        DifferenceRow(
            first=first,
            second=second,
            difference=Estimate.of(crossed_interval(kept.of(first) - kept.of(second), seed=seed)),
        )
        for first, second in itertools.combinations(ranked, 2)
    ]
    return MushraReport(
        n_items=len(table.items),
        n_raters=len(table.raters),
        n_kept=len(kept.raters),
        raters=rows,
        scores=[ScoreRow(stimulus=name, score=Estimate.of(means[name])) for name in (REFERENCE, *ranked, ANCHOR)],
        differences=differences,
        anchor=AnchorCheck(
            lowest=all(means[ANCHOR].mean < means[name].mean for name in systems) if kept.raters else None,
            reference_highest=all(means[REFERENCE].mean > means[name].mean for name in systems)
            if kept.raters
            else None,
            raters_above_90=known(float(np.mean([row.anchor_above_90 > 0 for row in rows]))),
        ),
        alpha_systems=known(_alpha(kept, systems)),
        alpha_all=known(_alpha(kept, table.stimuli)),
        seed=seed,
    )


def screen(table: ScoreTable, rater: str) -> RaterRow:
    """Post-screening of BS.1534-3: hidden reference below 90, or anchor above 90, on more than 15 % of items."""
    own = table.only([rater])
    reference, anchor = (values[np.isfinite(values)] for values in (own.of(REFERENCE), own.of(ANCHOR)))
    below, above, pages = int((reference < HIGH).sum()), int((anchor > HIGH).sum()), len(reference)
    why = []
    if below > MOST_MISSES * pages:
        why.append(f"hidden reference below 90 on {below} of {pages} pages")
    if above > MOST_MISSES * pages:
        why.append(f"anchor above 90 on {above} of {pages} pages")
    return RaterRow(
        rater=rater,
        pages=pages,
        reference_mean=float(reference.mean()),
        reference_below_90=below,
        anchor_above_90=above,
        excluded="; ".join(why) or None,
    )


def _alpha(table: ScoreTable, stimuli: Sequence[str]) -> float:
    if len(table.raters) < 2:
        return math.nan
    places = [table.stimuli.index(name) for name in stimuli]
    return krippendorff_alpha(table.scores[:, :, places].reshape(len(table.raters), -1))
