"""`ensemble`: several `film_unet`s whose logits are averaged: their errors differ more than their hits.

Members may see fewer rows than the ensemble's grid has. Both grids are the same stretch of the same warped frequency
axis, so a coarse row's power is a weighted mean of fine rows, and its logits are read between its rows.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from marssep.errors import SettingsError
from marssep.model.film_unet import FilmUNet, FilmUNetSettings
from marssep.model.network import MaskNetwork, MaskOutput, normalise
from marssep.settings import Settings
from marssep.spectral import SpectralSettings, Spectrogram

_RATE = 32000  # Hz; how many bins a row has depends on the window's seconds alone, as long as the row is reached


class MemberSettings(FilmUNetSettings):
    """Size of one network."""

    n_bands: int | None = None
    """Rows of the grid that it sees; None: the ensemble's."""


class EnsembleSettings(Settings):
    """Who is in it."""

    members: tuple[MemberSettings, ...] = Field((MemberSettings(), MemberSettings()), min_length=1)
    """Each network."""


class Ensemble(MaskNetwork):
    """The mean of the members' mask logits and of their presence logits.

    Args:
        settings: sizes of the members.
        spectral: the grid; no member has more rows.
        query_dimension: length of the query embedding.

    Raises:
        SettingsError: if a member has more rows than the grid.
    """

    def __init__(self, settings: EnsembleSettings, *, spectral: SpectralSettings, query_dimension: int) -> None:
        super().__init__(n_bands=spectral.n_bands, query_dimension=query_dimension)
        self.settings = settings
        self.members = nn.ModuleList()
        for number, member in enumerate(settings.members):
            if (member.n_bands or 0) > spectral.n_bands:
                raise SettingsError(
                    f"network.members[{number}].n_bands = {member.n_bands}: more rows than the ensemble's grid has "
                    f"(spectral.n_bands = {spectral.n_bands}); take the grid of the finest member."
                )
            own = spectral.model_copy(update={"n_bands": member.n_bands or spectral.n_bands})
            network = FilmUNet(member, spectral=own, query_dimension=query_dimension)
            self.members.append(network if own == spectral else _Coarser(network, spectral))

    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        """Logits for every query; see `MaskNetwork`."""
        outputs: list[MaskOutput] = [member(power, query) for member in self.members]
        logits = torch.stack([output.logits for output in outputs]).mean(0)
        return MaskOutput(logits, torch.stack([output.presence for output in outputs]).mean(0))

    def networks(self) -> list[FilmUNet]:
        """The members themselves."""
        inner = [member.network if isinstance(member, _Coarser) else member for member in self.members]
        return [network for network in inner if isinstance(network, FilmUNet)]

    def sharpen(self, factor: float) -> None:
        """As `MaskNetwork.sharpen` says."""
        for network in self.networks():
            network.sharpen(factor)


class _Coarser(nn.Module):
    """A network of fewer rows behind a finer grid."""

    def __init__(self, network: FilmUNet, fine: SpectralSettings) -> None:
        super().__init__()
        self.network = network
        position = torch.arange(fine.n_bands) * ((network.n_bands - 1) / (fine.n_bands - 1))
        shares = (1.0 - (position[:, None] - torch.arange(network.n_bands)).abs()).clamp_min(0.0)
        # A fine row counts by its bins: at the bottom some rows have none.
        pooling = (shares * Spectrogram(fine).row_bins(_RATE)).T
        self.shares: Tensor
        self.pooling: Tensor
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer("pooling", pooling / pooling.sum(1, keepdim=True).clamp_min(1e-12), persistent=False)

    def forward(self, power: Float[Tensor, "b fine steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        coarse = self.pooling @ power
        coarse = coarse * (normalise(coarse) / normalise(power))  # as loud for the network as the mixture is here
        output: MaskOutput = self.network(coarse, query)
        return MaskOutput(self.shares @ output.logits, output.presence)
