"""What a query encoder hears in a separated sound, in three numbers; for both engines."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

LOUD = 0.01
"""Patches of a stretch whose power is less than this share of the loudest one's say nothing (20 dB)."""
KIN = 0.5
"""Names whose cosine with the query is this or more may mean the same sound; they are no rivals."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What speaks for a target being the sound that was asked for; all 0 where nobody listened.

    Attributes:
        match: largest cosine between the query and the loudest stretches of the target, in [-1, 1].
        spread: standard deviation of the cosine over the patches of the stretch that matches best.
        rival: mean over these patches of the largest cosine with the name of another sound.
    """

    match: float = 0.0
    spread: float = 0.0
    rival: float = 0.0


def weigh_patches(
    match: float,
    patches: Float32[np.ndarray, "p d"],
    power: Float32[np.ndarray, " p"],
    *,
    query: Float32[np.ndarray, " d"],
    rivals: Float32[np.ndarray, "k d"],
    loud: float = LOUD,
    kin: float = KIN,
) -> Heard:
    """Evidence of the stretch that matches best, whose cosine with the query is known.

    Args:
        match: that cosine.
        patches: unit-norm embeddings of its patches.
        power: of each patch.
        query: unit-norm embedding.
        rivals: unit-norm embeddings of names; those that may mean the query do not count.
        loud: see `LOUD`.
        kin: see `KIN`.
    """
    audible = patches[power >= loud * power.max()]
    others = rivals[rivals @ query < kin]
    rival = float((audible @ others.T).max(axis=1).mean()) if len(others) else 0.0
    return Heard(match, float((audible @ query).std()), rival)
