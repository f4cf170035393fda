"""One score for each query, system and mixture: the rows of the per-item table that every figure is made from."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from marssep.evaluate.results import Modality, write_text
from marssep.metrics import si_sdr_db, snr_db, suppression_db
from marssep.metrics.bss_batched import BssReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one system made of one query. NaN where a metric is not defined or was not computed.

    Attributes:
        mixture: id of the mixture: the cluster of the intervals.
        query: number of the query in the mixture; the absent one comes after the sources.
        present: whether the sound is in the mixture.
        label: class asked for.
        group: `instrument`, `sound`, `speech`; empty for an absent sound.
        system: who separated.
        modality: how it was asked for; None for systems that see no query.
        si_sdr_improvement_db: SI-SDR minus the mixture's; the gate plays no part in it.
        snr_db: SNR of the estimate.
        snr_improvement_db: SNR minus the mixture's.
        suppression_db: level of the mixture minus that of the estimate, gate open.
        presence: probability that the sound is there; NaN for systems that do not say.
        loudest_db: level of the estimate relative to the mixture where that is highest, gate open; NaN for systems that
            do not say whether the sound is there.
        bss_sdr_db: BSS-eval v4, on part of the list or all of it.
        bss_sir_db: as above.
        bss_sar_db: as above.
        input_snr_db: SNR of the mixture as an estimate of the target: how loud the target is in it.
        text_score: how well the estimate fits the query's words, by a named encoder.
        audio_score: how well it fits the target's sound, by a named encoder.
        judge: cosine of estimate and target in the ears of the independent judge; NaN unless it was asked for.
    """

    mixture: str
    query: int
    present: bool
    label: str
    group: str
    system: str
    modality: Modality | None
    si_sdr_improvement_db: float = math.nan
    snr_db: float = math.nan
    snr_improvement_db: float = math.nan
    suppression_db: float = math.nan
    presence: float = math.nan
    loudest_db: float = math.nan
    bss_sdr_db: float = math.nan
    bss_sir_db: float = math.nan
    bss_sar_db: float = math.nan
    input_snr_db: float = math.nan
    text_score: float = math.nan
    audio_score: float = math.nan
    judge: float = math.nan

    @property
    def key(self) -> tuple[str, int]:
        """The query, whoever answers it: what pairs are made by."""
        return self.mixture, self.query


def signal_figures(
    estimate: Float[Tensor, "q n"],
    reference: Float[Tensor, "q n"],
    mixture: Float[Tensor, " n"],
    *,
    bss: BssReference | None = None,
) -> list[dict[str, float]]:
    """The signal fields of `Score` for the estimates of sounds that are in the mixture.

    Args:
        estimate: one for each query.
        reference: the targets, in the same order.
        mixture: the recording.
        bss: the targets, prepared once for all systems, if BSS-eval figures are wanted too.
    """
    si_sdr, snr = si_sdr_db(estimate, reference), snr_db(estimate, reference)
    input_snr = snr_db(mixture, reference)
    gain, snr_gain = si_sdr - si_sdr_db(mixture, reference), snr - input_snr
    below = suppression_db(estimate, mixture)
    found = None if bss is None else bss(estimate)
    rows = []
    for index in range(len(estimate)):
        row = {
            "si_sdr_improvement_db": gain[index].item(),
            "snr_db": snr[index].item(),
            "snr_improvement_db": snr_gain[index].item(),
            "suppression_db": below[index].item(),
            "input_snr_db": input_snr[index].item(),
        }
        if found is not None:
            row["bss_sdr_db"] = found.sdr_db[index].item()
            row["bss_sir_db"] = found.sir_db[index].item()
            row["bss_sar_db"] = found.sar_db[index].item()
        rows.append(row)
    return rows


def column(scores: Iterable[Score], name: str) -> np.ndarray:
    """One field of every score as float64."""
    return np.array([getattr(score, name) for score in scores], dtype=np.float64)


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write the per-item table as CSV, atomically; NaN and None are empty cells.

    Raises:
        OutputError: if the folder cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Score)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for score in scores:
        writer.writerow([_cell(getattr(score, name)) for name in names])
    write_text(path, out.getvalue())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)
