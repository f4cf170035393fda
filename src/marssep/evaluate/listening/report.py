"""What is found in the answers: records that are written as JSON, and the same as lines to read."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from marssep.evaluate.results import Record, write_text
from marssep.metrics import Interval


class Estimate(Record):
    """A mean with its 95 % interval; null where there is nothing to tell."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    """Answers behind it."""

    @classmethod
    def of(cls, interval: Interval) -> "Estimate":
        """From an interval of `marssep.metrics`."""
        return cls(mean=known(interval.mean), low=known(interval.low), high=known(interval.high), n=interval.n)


class RaterRow(Record):
    """One rater of a MUSHRA study."""

    rater: str
    pages: int
    reference_mean: float
    reference_below_90: int
    """Pages on which the hidden reference got less than 90."""
    anchor_above_90: int
    """Pages on which the anchor got more than 90."""
    excluded: str | None
    """Why the rater's answers are left out of the means; null if they are in."""


class ScoreRow(Record):
    """One stimulus over the raters that are kept."""

    stimulus: str
    score: Estimate


class DifferenceRow(Record):
    """Mean score of the first minus the second, on the same pages."""

    first: str
    second: str
    difference: Estimate


class AnchorCheck(Record):
    """Whether the anchor did what it is for."""

    lowest: bool | None
    """Whether its mean is below every system's; null if no rater is kept."""
    raters_above_90: float | None
    """Share of all raters who gave the anchor more than 90 on some page."""
    reference_highest: bool | None
    """Whether the hidden reference's mean is above every system's; null if no rater is kept."""


class MushraReport(Record):
    """Analysis of a MUSHRA study."""

    format: Literal[1] = 1
    kind: Literal["mushra"] = "mushra"
    n_items: int
    n_raters: int
    n_kept: int
    raters: list[RaterRow]
    scores: list[ScoreRow]
    differences: list[DifferenceRow]
    anchor: AnchorCheck
    alpha_systems: float | None
    """Krippendorff's alpha of the kept raters over the systems alone."""
    alpha_all: float | None
    """The same with hidden reference and anchor, whose places are plain: higher, and easier to come by."""
    seed: int

    def lines(self) -> list[str]:
        """For a terminal."""
        out = [f"MUSHRA: {self.n_items} items, {self.n_raters} raters, {self.n_kept} kept after screening"]
        out += [f"  {row.stimulus:<24} {_scale(row.score, 1)}" for row in self.scores]
        out += ["Differences of means, same pages"]
        out += [f"  {row.first} - {row.second}: {_scale(row.difference, 1)}" for row in self.differences]
        out += [f"Left out: {row.rater} ({row.excluded})" for row in self.raters if row.excluded]
        if not self.n_kept:
            out.append("Warning: no rater passed the screening, so there are no means.")
        if self.anchor.lowest is False:
            out.append("Warning: the anchor is not below every system; the scale's lower end is not held.")
        if self.anchor.reference_highest is False:
            out.append("Warning: the hidden reference is not above every system.")
        alpha = f"{_number(self.alpha_systems)} (systems), {_number(self.alpha_all)} (with reference and anchor)"
        return [*out, f"Krippendorff's alpha: {alpha}"]


class PairRow(Record):
    """One pair of systems over all raters and items."""

    first: str
    second: str
    preferred_first: int
    preferred_second: int
    no_preference: int
    share_first: Estimate
    """Share of the first among the answers with a preference, with Wilson's interval."""
    sign_test_p: float | None
    """Two-sided exact sign test of no preference either way; ties left out."""
    sign_test_p_holm: float | None
    """The same, corrected for the number of pairs (Holm 1979)."""


class StrengthRow(Record):
    """A system on the Bradley-Terry scale."""

    system: str
    strength: Estimate
    """Logarithm of its strength, mean over systems 0: a difference d means preference with odds exp(d)."""


class PreferenceReport(Record):
    """Analysis of an A/B study."""

    format: Literal[1] = 1
    kind: Literal["ab"] = "ab"
    n_items: int
    n_raters: int
    n_answers: int
    pairs: list[PairRow]
    strengths: list[StrengthRow]
    share_a: Estimate
    """Share of A among the answers with a preference: far from a half means that the side was chosen."""
    seed: int

    def lines(self) -> list[str]:
        """For a terminal."""
        out = [f"A/B: {self.n_items} items, {self.n_raters} raters, {self.n_answers} answers", "Bradley-Terry scale"]
        out += [f"  {row.system:<24} {_scale(row.strength, 2)}" for row in self.strengths]
        for row in self.pairs:
            counts = f"{row.preferred_first} : {row.preferred_second}, no preference {row.no_preference}"
            p = f"sign test p = {_number(row.sign_test_p)} (Holm {_number(row.sign_test_p_holm)})"
            out.append(f"{row.first} against {row.second}: {_scale(row.share_first, 2)} ({counts}); {p}")
        return [*out, f"Share of side A: {_scale(self.share_a, 2)}"]


def write_report(path: Path, report: MushraReport | PreferenceReport) -> None:
    """Write as JSON, atomically.

    Raises:
        OutputError: if the folder cannot be written.
    """
    write_text(path, json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def known(value: float) -> float | None:
    """The value, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the chance of one false alarm among all tests stays below the level."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _scale(estimate: Estimate, digits: int) -> str:
    if estimate.mean is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.{digits}f} (n = {estimate.n})"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}] (n = {estimate.n})"
