"""What a query encoder hears in a separated sound, in three numbers, and the presence they make; for both engines."""

import math
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


@dataclass(frozen=True, slots=True)
class EvidenceWeights:
    """Logistic regression behind the presence probability, fitted on validation.

    Attributes:
        bias: constant.
        network: of the network's presence logit.
        match: of each number of `Heard`, as the next two.
        spread: see `match`.
        rival: see `match`.
    """

    bias: float
    network: float
    match: float
    spread: float
    rival: float

    @property
    def patches(self) -> bool:
        """Whether the patches of the target have a say."""
        return bool(self.spread or self.rival)

    @property
    def listens(self) -> bool:
        """Whether anything that is heard in the target has a say."""
        return bool(self.match) or self.patches

    def presence(self, network: float, heard: Heard) -> float:
        """Probability that the sound is there.

        Args:
            network: the network's presence logit, the largest over the chunks.
            heard: in the target.
        """
        if network == -math.inf:  # digital silence
            return 0.0
        logit = self.bias + self.network * network + self.match * heard.match
        logit += self.spread * heard.spread + self.rival * heard.rival
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


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
