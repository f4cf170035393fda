"""From scores of single queries to the figures of a report; nothing is measured here, only counted."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marssep.evaluate.comparisons import comparisons, strata
from marssep.evaluate.presence import kept_gain, roc
from marssep.evaluate.results import (
    GATED,
    MODEL,
    BssRow,
    ClassRow,
    ComparisonRow,
    Figure,
    Modality,
    PairedRow,
    PresenceRow,
    StratumRow,
    SystemRow,
)
from marssep.evaluate.scores import Score, column
from marssep.metrics import Interval, mean_interval, paired_difference, ratio_interval, share_interval
from marssep.separate.presence import Gate

GROUPS = ("all", "instrument", "sound", "speech")
FEWEST_FOR_CLASS = 5
"""A class with fewer mixtures gets its mean and no interval: the bootstrap of three values knows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Makes every figure with the same draws.

    Attributes:
        scores: of every query, system and kind of query.
        gates: of every model, by the name of its rows; the other systems have none.
        absent_level_db: an absent sound's target must lie this far below the mixture.
        level: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    scores: Sequence[Score]
    gates: Mapping[str, Gate]
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
                if system in self.gates:
                    rows.append(self._gated_row(system, modality, group, chosen))
        return sorted(rows, key=lambda row: row.system.endswith(GATED))  # stable: the gated rows come last

    def paired(self, baseline: Modality = "text") -> list[PairedRow]:
        """Mean SI-SDRi by every other kind of query minus that by `baseline`, on the queries that have both."""
        tables = {
            modality: {score.key: score for score in scores}
            for (_, modality), scores in _by_system(self._of_model(MODEL, present=True)).items()
            if modality is not None
        }
        rows = []
        for modality, table in tables.items():
            if modality == baseline or baseline not in tables:
                continue
            keys = [key for key in table if key in tables[baseline]]
            first = column((table[key] for key in keys), "si_sdr_improvement_db")
            second = column((tables[baseline][key] for key in keys), "si_sdr_improvement_db")
            interval = self._difference(first, second, [key[0] for key in keys])
            rows.append(PairedRow(modality=modality, baseline=baseline, difference_db=Figure.of(interval)))
        return rows

    def presence(self) -> list[PresenceRow]:
        """For each kind of query: how absent sounds are answered, and what the gate takes from the present ones."""
        rows = []
        for model in self.gates:
            present = _by_system(self._of_model(model, present=True))
            for (system, modality), scores in _by_system(self._of_model(model, present=False)).items():
                if modality is not None and (system, modality) in present:
                    rows.append(self._presence_row(model, modality, present[system, modality], scores))
        return rows

    def comparisons(self) -> list[ComparisonRow]:
        """Any two systems over the same queries."""
        return comparisons(_by_system(score for score in self.scores if score.present), self._difference)

    def strata(self, edges: Sequence[float]) -> list[StratumRow]:
        """Every system by the input SNR of the target."""
        table = _by_system(score for score in self.scores if score.present)
        return list(strata(table, edges, lambda scores: self._figure(scores, "si_sdr_improvement_db")))

    def classes(self) -> list[ClassRow]:
        """One row for each class and kind of query."""
        table: dict[tuple[str, str, Modality], list[Score]] = defaultdict(list)
        for score in self._of_model(MODEL, present=True):
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

    def _of_model(self, model: str, *, present: bool) -> list[Score]:
        return [score for score in self.scores if score.system == model and score.present == present]

    def _rejected(self, model: str, scores: Sequence[Score]) -> np.ndarray:
        return self.gates[model].closed(column(scores, "presence"), column(scores, "loudest_db"))

    def _difference(self, first: np.ndarray, second: np.ndarray, mixtures: list[str]) -> Interval:
        return paired_difference(first, second, mixtures, level=self.level, resamples=self.resamples, seed=self.seed)

    def _system_row(self, system: str, modality: Modality | None, group: str, scores: Sequence[Score]) -> SystemRow:
        return SystemRow(
            system=system,
            modality=modality,
            group=group,
            si_sdr_improvement_db=self._figure(scores, "si_sdr_improvement_db"),
            snr_db=self._figure(scores, "snr_db"),
            snr_improvement_db=self._figure(scores, "snr_improvement_db"),
            bss=_bss_row(scores),
            text_score=self._optional_figure(scores, "text_score"),
            audio_score=self._optional_figure(scores, "audio_score"),
            judge=self._optional_figure(scores, "judge"),
        )

    def _gated_row(self, model: str, modality: Modality | None, group: str, scores: Sequence[Score]) -> SystemRow:
        gain = kept_gain(column(scores, "si_sdr_improvement_db"), self._rejected(model, scores))
        return SystemRow(
            system=model + GATED,
            modality=modality,
            group=group,
            si_sdr_improvement_db=self._interval_figure(gain, scores),
            snr_db=None,
            snr_improvement_db=None,
            bss=None,
        )

    def _presence_row(
        self, model: str, modality: Modality, present: Sequence[Score], absent: Sequence[Score]
    ) -> PresenceRow:
        gate = self.gates[model]
        suppression, rejected = column(absent, "suppression_db"), self._rejected(model, absent)
        gated = suppression + gate.attenuation_db * rejected
        gain, closed = column(present, "si_sdr_improvement_db"), self._rejected(model, present)
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
            system=model,
            threshold=gate.threshold,
            quiet_threshold=gate.quiet_threshold,
            quiet_db=gate.quiet_db,
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

    def _optional_figure(self, scores: Sequence[Score], name: str) -> Figure | None:
        return self._figure(scores, name) if np.isfinite(column(scores, name)).any() else None

    def _interval_figure(self, values: np.ndarray, scores: Sequence[Score], *, fewest: int = 2) -> Figure:
        clusters = [score.mixture for score in scores]
        interval = mean_interval(values, clusters, level=self.level, resamples=self.resamples, seed=self.seed)
        known = values[np.isfinite(values)]
        median = float(np.median(known)) if known.size else float("nan")
        sem = float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else float("nan")
        return Figure.of(interval, median=median, sem=sem, fewest=fewest)

    def _share(self, answers: np.ndarray) -> Figure:
        interval: Interval = share_interval(answers.astype(np.float64), level=self.level)  # one absent query a mixture
        return Figure.of(interval)


def _by_system(scores: Iterable[Score]) -> dict[tuple[str, Modality | None], list[Score]]:
    table: dict[tuple[str, Modality | None], list[Score]] = {}
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
