"""What is reported: the signal-to-distortion family in dB and intervals that say what a difference is worth."""

from marssep.metrics.bss import BssScores, bss_eval_v4
from marssep.metrics.bss_batched import BssFigures, BssReference, bss_eval_batched
from marssep.metrics.intervals import (
    Interval,
    mean_interval,
    paired_difference,
    ratio_interval,
    share_interval,
    unpaired_difference,
)
from marssep.metrics.signal import (
    is_silent,
    level_db,
    si_sdr_db,
    si_sdr_improvement,
    snr_db,
    snr_improvement,
    suppression_db,
)
from marssep.metrics.weighted import log_wmse

__all__ = [
    "BssFigures",
    "BssReference",
    "BssScores",
    "Interval",
    "bss_eval_batched",
    "bss_eval_v4",
    "is_silent",
    "level_db",
    "log_wmse",
    "mean_interval",
    "paired_difference",
    "ratio_interval",
    "share_interval",
    "si_sdr_db",
    "si_sdr_improvement",
    "snr_db",
    "snr_improvement",
    "suppression_db",
    "unpaired_difference",
]
