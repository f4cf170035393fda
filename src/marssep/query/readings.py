"""What a picture may show: several places on the sphere with their chances, for the mixture to choose between."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

KEPT = 8
"""Readings kept: the right class is among the first eight for nearly every picture, and each costs a decoder pass."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The likeliest readings of a query that is not sure of itself.

    Attributes:
        places: unit norm, one row a reading.
        chances: of each, in (0, 1]; together at most 1.
        embedding: of the query as long as nothing is known of the mixture: all readings at once.
    """

    places: Float[Tensor, "k d"]
    chances: Float[Tensor, " k"]
    embedding: Float[Tensor, " d"]

    @classmethod
    def of(cls, places: Float[Tensor, "c d"], chances: Float[Tensor, " c"], *, kept: int = KEPT) -> "Readings":
        """The likeliest of all classes.

        Args:
            places: of all classes, unit norm.
            chances: of all classes, summing to 1.
            kept: how many are kept.
        """
        best = chances.topk(min(kept, len(chances)))
        return cls(places[best.indices], best.values.clamp_min(1e-12), F.normalize(chances @ places, dim=-1))

    def reweighted(self, evidence: Float[Tensor, " k"]) -> Float[Tensor, " d"]:
        """The embedding once something else speaks for or against each reading.

        Args:
            evidence: log-odds, added to the logarithms of the chances.
        """
        return F.normalize((self.chances.log() + evidence).softmax(0) @ self.places, dim=-1)
