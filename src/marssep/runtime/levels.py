"""How loud a target is within its recording, as `marssep.separate.trace` has it."""

import math

import numpy as np
from jaxtyping import Float32

FLOOR_DB = -60.0
"""Least level."""


def loudest_db(
    target: Float32[np.ndarray, "c n"],
    mixture: Float32[np.ndarray, "c n"],
    sample_rate: int,
    *,
    seconds: float,
    quiet: float,
) -> float:
    """Level of a target relative to the recording in the stretch where that is highest, in dB, at least `FLOOR_DB`.

    Args:
        target: any number of channels.
        mixture: of the same shape.
        sample_rate: Hz; energies are taken second by second.
        seconds: length of a stretch; shorter recordings are one stretch.
        quiet: stretches with less than this share of the loudest one's energy have no say.
    """
    starts = np.arange(0, target.shape[-1], sample_rate)
    energies = [np.add.reduceat(np.square(each, dtype=np.float64).sum(0), starts) for each in (target, mixture)]
    stretch = np.ones(min(max(1, math.ceil(seconds)), len(starts)))
    own, whole = (np.convolve(each, stretch, mode="valid") for each in energies)
    heard = whole > quiet * whole.max()
    if not heard.any():
        return FLOOR_DB
    return max(FLOOR_DB, 10.0 * math.log10(max(float((own[heard] / whole[heard]).max()), 1e-12)))
