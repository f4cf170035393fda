"""From scores of single queries to the figures of a report; nothing is measured here, only counted."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from marssep.evaluate.presence import kept_gain, roc
from marssep.evaluate.results import (
    BssRow,
    ClassRow,
    Figure,
    Modality,
    PairedRow,
    PresenceRow,
    System,
    SystemRow,
)
from marssep.evaluate.scores import Score, column
from marssep.metrics import Interval, mean_interval, paired_difference, ratio_interval, share_interval

GROUPS = ("all", "instrument", "sound", "speech")
FEWEST_FOR_CLASS = 5
"""A class with fewer mixtures gets its mean and no interval: the bootstrap of three values knows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Makes every figure with the same draws.

    Attributes:
        scores: of every query, system and kind of query.
        threshold: presence below which the gate closes.
        attenuation_db: how far a closed gate turns the target down.
        absent_level_db: an absent sound's target must lie this far below the mixture.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    scores: Sequence[Score]
    threshold: float
    attenuation_db: float
    absent_level_db: float
    level: float
    resamples: int
    seed: int

    def systems(self) -> list[SystemRow]:
        """One row for each system, kind of query and group, in the order of first appearance."""
        rows: list[SystemRow] = []
        for (system, modality), scores in _by_system(score for score in self.scores if score.present).items():
            for group in GROUPS:
                chosen = [score for score in scores if group in ("all", score.group)]
                if not chosen:
                    continue
                rows.append(self._system_row(system, modality, group, chosen))
                if system == "model":
                    rows.append(self._gated_row(modality, group, chosen))
        return sorted(rows, key=lambda row: row.system == "model_gated")  # stable: the gated rows come last

    def paired(self, baseline: Modality = "text") -> list[PairedRow]:
        """Mean SI-SDRi by every other kind of query minus that by `baseline`, on the queries that have both."""
        tables = {
            modality: {score.key: score for score in scores}
            for (_, modality), scores in _by_system(self._of_model(present=True)).items()
            if modality is not None
        }
        rows = []
        for modality, table in tables.items():
            if modality == baseline or baseline not in tables:
                continue
            keys = [key for key in table if key in tables[baseline]]
            first = column((table[key] for key in keys), "si_sdr_improvement_db")
            second = column((tables[baseline][key] for key in keys), "si_sdr_improvement_db")
            interval = paired_difference(
                first, second, [key[0] for key in keys], level=self.level, resamples=self.resamples, seed=self.seed
            )
            rows.append(PairedRow(modality=modality, baseline=baseline, difference_db=Figure.of(interval)))
        return rows

    def presence(self) -> list[PresenceRow]:
        """For each kind of query: how absent sounds are answered, and what the gate takes from the present ones."""
        present = _by_system(self._of_model(present=True))
        absent = _by_system(self._of_model(present=False))
        rows = []
        for (system, modality), scores in absent.items():
            if modality is not None and (system, modality) in present:
                rows.append(self._presence_row(modality, present[system, modality], scores))
        return rows

    def classes(self) -> list[ClassRow]:
        """One row for each class and kind of query."""
        table: dict[tuple[str, str, Modality], list[Score]] = defaultdict(list)
        for score in self._of_model(present=True):
            if score.modality is not None:
                table[score.label, score.group, score.modality].append(score)
        return [
            ClassRow(
                label=label,
                group=group,
                modality=modality,
                si_sdr_improvement_db=self._figure(scores, "si_sdr_improvement_db", fewest=FEWEST_FOR_CLASS),
            )
            for (label, group, modality), scores in sorted(table.items(), key=lambda entry: entry[0])
        ]

    def _of_model(self, *, present: bool) -> list[Score]:
        return [score for score in self.scores if score.system == "model" and score.present == present]

    def _rejected(self, scores: Sequence[Score]) -> np.ndarray:
        return column(scores, "presence") < self.threshold

    def _system_row(self, system: System, modality: Modality | None, group: str, scores: Sequence[Score]) -> SystemRow:
        return SystemRow(
            system=system,
            modality=modality,
            group=group,
            si_sdr_improvement_db=self._figure(scores, "si_sdr_improvement_db"),
            snr_db=self._figure(scores, "snr_db"),
            snr_improvement_db=self._figure(scores, "snr_improvement_db"),
            bss=_bss_row(scores),
        )

    def _gated_row(self, modality: Modality | None, group: str, scores: Sequence[Score]) -> SystemRow:
        gain = kept_gain(column(scores, "si_sdr_improvement_db"), self._rejected(scores))
        return SystemRow(
            system="model_gated",
            modality=modality,
            group=group,
            si_sdr_improvement_db=self._interval_figure(gain, scores),
            snr_db=None,
            snr_improvement_db=None,
            bss=None,
        )

    def _presence_row(self, modality: Modality, present: Sequence[Score], absent: Sequence[Score]) -> PresenceRow:
        suppression, rejected = column(absent, "suppression_db"), self._rejected(absent)
        gated = suppression + self.attenuation_db * rejected
        gain, closed = column(present, "si_sdr_improvement_db"), self._rejected(present)
        known = np.isfinite(gain)
        kept = ratio_interval(
            kept_gain(gain, closed)[known],
            gain[known],
            [score.mixture for score, yes in zip(present, known, strict=True) if yes],
            level=self.level,
            resamples=self.resamples,
            seed=self.seed,
        )
        return PresenceRow(
            modality=modality,
            threshold=self.threshold,
            area=roc(column(present, "presence"), column(absent, "presence")).area,
            absent_suppressed_by_mask=self._share(suppression >= self.absent_level_db),
            absent_suppressed=self._share(gated >= self.absent_level_db),
            absent_rejected=self._share(rejected),
            absent_suppression_median_db=float(np.median(gated)),
            present_rejected=self._interval_figure(closed.astype(np.float64), present),
            kept=Figure.of(kept),
        )

    def _figure(self, scores: Sequence[Score], name: str, *, fewest: int = 2) -> Figure:
        return self._interval_figure(column(scores, name), scores, fewest=fewest)

    def _interval_figure(self, values: np.ndarray, scores: Sequence[Score], *, fewest: int = 2) -> Figure:
        clusters = [score.mixture for score in scores]
        interval = mean_interval(values, clusters, level=self.level, resamples=self.resamples, seed=self.seed)
        known = values[np.isfinite(values)]
        return Figure.of(interval, median=float(np.median(known)) if known.size else float("nan"), fewest=fewest)

    def _share(self, answers: np.ndarray) -> Figure:
        interval: Interval = share_interval(answers.astype(np.float64), level=self.level)  # one absent query a mixture
        return Figure.of(interval)


def _by_system(scores: Iterable[Score]) -> dict[tuple[System, Modality | None], list[Score]]:
    table: dict[tuple[System, Modality | None], list[Score]] = {}
    for score in scores:
        table.setdefault((score.system, score.modality), []).append(score)
    return table


def _bss_row(scores: Sequence[Score]) -> BssRow | None:
    scored = [score for score in scores if np.isfinite(score.bss_sdr_db)]
    if not scored:
        return None
    return BssRow(
        n=len(scored),
        sdr_db=_mean(column(scored, "bss_sdr_db")),
        sir_db=_mean(column(scored, "bss_sir_db")),
        sar_db=_mean(column(scored, "bss_sar_db")),
        largest_difference_to_snr_db=float(np.abs(column(scored, "bss_sdr_db") - column(scored, "snr_db")).max()),
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
