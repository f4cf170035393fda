"""A picture may show several things: the mixture chooses, as `marssep.separate.settling` has it (decision 0008)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from marssep.runtime.folder import ReadingSettings


@dataclass(frozen=True, slots=True)
class Readings:
    """The likeliest readings of a picture, as `marssep.query.Readings`.

    Attributes:
        places: unit norm, one row a reading.
        chances: of each, in (0, 1]; together at most 1.
        embedding: all readings at once.
    """

    places: Float32[np.ndarray, "k d"]
    chances: Float32[np.ndarray, " k"]
    embedding: Float32[np.ndarray, " d"]

    @classmethod
    def of(cls, places: Float32[np.ndarray, "c d"], chances: Float32[np.ndarray, " c"], *, kept: int) -> "Readings":
        """The likeliest of all classes.

        Args:
            places: of all classes, unit norm.
            chances: of all classes, summing to 1.
            kept: how many are kept.
        """
        best = np.argsort(-chances, kind="stable")[:kept]
        return cls(places[best], np.maximum(chances[best], np.float32(1e-12)), _unit(chances @ places))


@dataclass(frozen=True, slots=True)
class Settled:
    """A picture after a look at the mixture.

    Attributes:
        embedding: its readings, weighted by how much speaks for each being in the mixture.
        presence: log-odds of what was meant being in the mixture; minus infinity in digital silence.
    """

    embedding: Float32[np.ndarray, " d"]
    presence: float


def weigh(
    settings: ReadingSettings,
    readings: Readings,
    logits: Float32[np.ndarray, " k"],
    stretches: Float32[np.ndarray, "s d"] | None,
) -> Settled:
    """Let the mixture decide between the readings.

    Args:
        settings: of the exported model.
        readings: of the picture.
        logits: the network's of every reading being there; minus infinity in digital silence.
        stretches: embeddings of the loudest stretches of the mixture, if the model uses them.
    """
    if np.isneginf(logits).all():
        return Settled(readings.embedding, -math.inf)
    evidence = settings.bias + settings.network * logits
    if stretches is not None:
        evidence = evidence + settings.match * (stretches @ readings.places.T).max(axis=0)
    odds = np.log(readings.chances) + evidence
    shares = np.exp(odds - odds.max())
    return Settled(_unit(shares @ readings.places), float(np.logaddexp.reduce(odds)))


def _unit(row: np.ndarray) -> Float32[np.ndarray, " d"]:
    return (row / max(float(np.linalg.norm(row)), 1e-12)).astype(np.float32)
