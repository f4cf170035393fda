"""`ensemble`: several `film_unet`s on one grid, whose logits are averaged: their errors differ more than their hits."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from marssep.model.film_unet import FilmUNet, FilmUNetSettings
from marssep.model.network import MaskNetwork, MaskOutput
from marssep.settings import Settings


class EnsembleSettings(Settings):
    """Who is in it."""

    members: tuple[FilmUNetSettings, ...] = Field((FilmUNetSettings(), FilmUNetSettings()), min_length=1)
    """Size of each network."""


class Ensemble(MaskNetwork):
    """The mean of the members' mask logits and of their presence logits.

    Args:
        settings: sizes of the members.
        n_bands: rows of the grid that all of them see.
        query_dimension: length of the query embedding.
    """

    def __init__(self, settings: EnsembleSettings, *, n_bands: int, query_dimension: int) -> None:
        super().__init__(n_bands=n_bands, query_dimension=query_dimension)
        self.settings = settings
        self.members = nn.ModuleList(
            FilmUNet(member, n_bands=n_bands, query_dimension=query_dimension) for member in settings.members
        )

    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        """Logits for every query; see `MaskNetwork`."""
        outputs: list[MaskOutput] = [member(power, query) for member in self.members]
        logits = torch.stack([output.logits for output in outputs]).mean(0)
        return MaskOutput(logits, torch.stack([output.presence for output in outputs]).mean(0))

    def sharpen(self, factor: float) -> None:
        """As `MaskNetwork.sharpen` says."""
        for member in self.members:
            assert isinstance(member, FilmUNet)
            member.sharpen(factor)
