"""How loud a target is within its recording, as `marssep.separate.trace` has it."""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

FLOOR_DB = -60.0
"""Least level."""


@dataclass(slots=True)
class SecondLevels:
    """Energy of a target and of its recording in every second, as their samples come.

    Attributes:
        sample_rate: Hz.
    """

    sample_rate: int
    _energy: list[np.ndarray] = field(default_factory=list)

    def push(self, start: int, target: Float32[np.ndarray, "c n"], recording: Float32[np.ndarray, "c n"]) -> None:
        """Take the next samples, the first of which is number `start`."""
        rate, stop = self.sample_rate, start + target.shape[1]
        for second in range(start // rate, -(-stop // rate)):
            place = slice(max(0, second * rate - start), (second + 1) * rate - start)
            if len(self._energy) <= second:
                self._energy.append(np.zeros(2))
            parts = (target[:, place], recording[:, place])
            self._energy[second] += [np.square(each, dtype=np.float64).sum() for each in parts]

    def loudest_db(self, *, seconds: float, quiet: float) -> float:
        """Level of the target relative to the recording where that is highest, in dB, at least `FLOOR_DB`.

        Args:
            seconds: length of a stretch; shorter recordings are one stretch.
            quiet: stretches with less than this share of the loudest one's energy have no say.
        """
        stretch = np.ones(min(max(1, math.ceil(seconds)), len(self._energy)))
        own, whole = (np.convolve(each, stretch, mode="valid") for each in np.array(self._energy).T)
        heard = whole > quiet * whole.max()
        if not heard.any():
            return FLOOR_DB
        return max(FLOOR_DB, 10.0 * math.log10(max(float((own[heard] / whole[heard]).max()), 1e-12)))
