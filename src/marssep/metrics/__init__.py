"""What is reported: the signal-to-distortion family in dB and intervals that say what a difference is worth."""

from marssep.metrics.bss import BssScores, bss_eval_v4
from marssep.metrics.intervals import Interval, mean_interval, paired_difference, ratio_interval, share_interval
from marssep.metrics.signal import level_db, si_sdr_db, si_sdr_improvement, snr_db, suppression_db

__all__ = [
    "BssScores",
    "Interval",
    "bss_eval_v4",
    "level_db",
    "mean_interval",
    "paired_difference",
    "ratio_interval",
    "share_interval",
    "si_sdr_db",
    "si_sdr_improvement",
    "snr_db",
    "suppression_db",
]
