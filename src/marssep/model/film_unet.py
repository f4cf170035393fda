"""`film_unet`: a U-Net on the log-frequency grid whose decoder is conditioned on the query at every level.

The encoder sees the mixture once; only the decoder runs per query, and its skip connections are convolved once per
mixture and shared by all queries. The last up-sampling is a pixel shuffle, which keeps the finest level cheap.

With shared levels, the finest ones are decoded once per mixture, into maps, and each query weighs the maps by weights
that it decodes on a coarser grid: further queries cost little, for most of the work is in the finest levels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from marssep.errors import SettingsError
from marssep.model.network import MaskNetwork, MaskOutput
from marssep.settings import Settings
from marssep.spectral import SpectralSettings

_DECODERS_END = ("head.", "weights.", "presence.")


class FilmUNetSettings(Settings):
    """Size of a `film_unet`."""

    channels: tuple[int, ...] = (32, 64, 96, 128, 192, 192)
    """Channels per level, finest first; every level halves rows and steps."""
    query_channels: int = 192
    """Width of the query's hidden layer, from which every FiLM scale and shift is read."""
    blocks: int = 1
    """Residual blocks per decoder level below the finest."""
    dropout: float = 0.1
    """On the query's hidden layer, in training."""
    shared: int = Field(default=0, ge=0)
    """Finest decoder levels that know no query and are decoded once for all."""
    maps: int = Field(default=32, ge=1)
    """Of the shared levels, for the queries to weigh."""


class FilmUNet(MaskNetwork):
    """Mask logits and a presence logit per query.

    Args:
        settings: size of the network.
        spectral: the grid; its rows must be divisible by 2 to the number of levels.
        query_dimension: length of the query embedding.

    Raises:
        SettingsError: if they are not, or if more decoder levels shall be shared than there are.
    """

    def __init__(self, settings: FilmUNetSettings, *, spectral: SpectralSettings, query_dimension: int) -> None:
        super().__init__(n_bands=spectral.n_bands, query_dimension=query_dimension)
        self.settings = settings
        widths = settings.channels
        self.stride = 2 ** len(widths)
        if spectral.n_bands % self.stride:
            raise SettingsError(
                f"spectral.n_bands = {spectral.n_bands} is not divisible by {self.stride}; "
                "choose another number of bands or levels."
            )
        if settings.shared > len(widths) - 1:
            raise SettingsError(f"shared = {settings.shared}, but the decoder has {len(widths) - 1} levels.")
        self.encoder = nn.ModuleList(_Down(c_in, c) for c_in, c in zip((2, *widths[:-1]), widths, strict=True))
        self.query = nn.Sequential(
            nn.Linear(query_dimension, settings.query_channels), nn.GELU(), nn.Dropout(settings.dropout)
        )
        self.bottleneck = _FilmBlock(widths[-1], settings.query_channels)
        levels = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        own, blocks = len(levels) - settings.shared, settings.blocks
        self.decoder = nn.ModuleList(_Up(low, c, settings.query_channels, blocks=blocks) for low, c in levels[:own])
        self.common = nn.ModuleList(_Up(low, c, None, blocks=blocks) for low, c in levels[own:])
        self.head = nn.Conv2d(widths[0], 4 * settings.maps if settings.shared else 4, 3, padding=1)
        if settings.shared:
            self.weights = nn.Conv2d(widths[settings.shared], 1 + settings.maps, 1)
        self.presence = _Presence(widths[max(1, settings.shared)], widths[-1], settings.query_channels)
        self.row_position: Tensor
        self.register_buffer("row_position", torch.linspace(-1, 1, spectral.n_bands)[:, None], persistent=False)

    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        """Logits for every query; see `MaskNetwork`."""
        n_steps = power.shape[-1]
        hidden = self.features(power)
        hidden = F.pad(hidden, (0, -n_steps % self.stride), mode="replicate")
        position = self.row_position.expand(hidden.shape[0], 1, -1, hidden.shape[-1])
        hidden = torch.cat([hidden[:, None], position], dim=1)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        skips = []
        for down in self.encoder:
            hidden = down(hidden)
            skips.append(hidden)
        n_queries = query.shape[1]
        condition = self.query(query.flatten(0, 1))
        deep = hidden = self.bottleneck(_repeat(hidden, n_queries), condition)
        shared = self.settings.shared
        for up, skip in zip(self.decoder, skips[-2::-1][: len(self.decoder)], strict=True):
            coarse = hidden
            hidden = up(hidden, skip, condition)
        if shared:
            coarse, hidden = hidden, self._weigh(hidden, skips[: shared + 1], n_queries)
        else:
            hidden = self.head(hidden)
        logits = F.pixel_shuffle(hidden, 2)[:, 0, :, :n_steps]
        presence = self.presence(coarse, deep, condition)
        return MaskOutput(logits.unflatten(0, (-1, n_queries)), presence.unflatten(0, (-1, n_queries)))

    def _weigh(self, own: Tensor, skips: list[Tensor], n_queries: int | torch.SymInt) -> Float[Tensor, "bq 4 _ _"]:
        """What each query makes of the maps that all of them share, before the pixel shuffle."""
        hidden = skips[-1]
        for up, skip in zip(self.common, skips[-2::-1], strict=True):
            hidden = up(hidden, skip, None)
        maps = self.head(hidden).permute(0, 2, 3, 1).unflatten(3, (4, self.settings.maps))
        factor = 2.0**self.settings.shared
        weights = F.interpolate(self.weights(own), scale_factor=factor, mode="bilinear", align_corners=False)
        # Queries last, so that every cell is one small product of matrices.
        weights = weights.permute(0, 2, 3, 1).unflatten(0, (-1, n_queries)).permute(0, 2, 3, 4, 1)
        weighed = maps @ weights[..., 1:, :] + weights[..., :1, :]
        return weighed.permute(0, 4, 3, 1, 2).flatten(0, 1)

    def shares_more(self, other: "FilmUNet") -> bool:
        """Whether more levels are shared than in the other network."""
        return self.settings.shared > other.settings.shared

    @torch.no_grad()
    def adopt(self, other: "FilmUNet") -> tuple[str, ...]:
        """Take over the weights of a network with fewer shared levels and otherwise the same sizes.

        A level that is shared from now on keeps its convolutions, and of what the query did to it the part that no
        query changes. What reads the decoder's end (masks, maps, presence) keeps its random weights.

        Args:
            other: the network that was trained.

        Returns:
            names of the parameters that stay random.

        Raises:
            ValueError: if the two differ in more than that.
        """
        common = {"shared": 0, "maps": 0}
        ours, theirs = (each.settings.model_dump() | common for each in (self, other))
        if ours != theirs or self.n_bands != other.n_bands or not self.shares_more(other):
            raise ValueError(f"{other.settings} cannot become {self.settings}: only shared levels may be added.")
        state, own = other.state_dict(), self.state_dict()
        sources = {name: self._name_in(other, name) for name in own if not name.startswith(_DECODERS_END)}
        taken = {name: state[source].clone() for name, source in sources.items()}
        for name in (name for name in taken if name.startswith("common.") and name.endswith("norm.weight")):
            film = state.get(sources[name].replace("norm.weight", "film.bias"))
            if film is not None:
                scale, shift = film.chunk(2)
                bias = name.replace("weight", "bias")
                taken[name] *= 1.0 + scale
                taken[bias] = taken[bias] * (1.0 + scale) + shift
        self.load_state_dict(own | taken)
        return tuple(name for name, _ in self.named_parameters() if name not in taken)

    def _name_in(self, other: "FilmUNet", name: str) -> str:
        """Name of the same weights in a network with fewer shared levels."""
        if not name.startswith("common."):
            return name
        _, level, rest = name.split(".", 2)
        place, own = len(self.decoder) + int(level), len(other.decoder)
        return f"decoder.{place}.{rest}" if place < own else f"common.{place - own}.{rest}"

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """As `MaskNetwork.sharpen` says."""
        last = self.weights if self.settings.shared else self.head
        for parameter in last.parameters():
            parameter.mul_(factor)


class _Down(nn.Module):
    """Halve rows and steps, then one residual convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 4, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.mix_norm = nn.BatchNorm2d(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = F.silu(self.down_norm(self.down(hidden)))
        return hidden + F.silu(self.mix_norm(self.mix(hidden)))


class _FilmBlock(nn.Module):
    """Residual convolution whose normalised output is scaled and shifted by the query, if there is one."""

    def __init__(self, channels: int, query_channels: int | None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.film = _film(channels, query_channels)

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        return hidden + F.silu(_conditioned(self.norm(self.convolution(hidden)), self.film, condition))


class _Up(nn.Module):
    """Double rows and steps, add the shared skip, condition if there is a query, refine."""

    def __init__(self, channels_low: int, channels: int, query_channels: int | None, *, blocks: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels_low, channels, 1, bias=False)
        self.skip = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.film = _film(channels, query_channels)
        self.blocks = nn.ModuleList(_FilmBlock(channels, query_channels) for _ in range(blocks))

    def forward(self, hidden: Tensor, skip: Tensor, condition: Tensor | None) -> Tensor:
        # A 1x1 convolution before the up-sampling costs a quarter of one after it and gives the same numbers.
        hidden = F.interpolate(self.reduce(hidden), scale_factor=2.0, mode="nearest")
        shared = self.skip(skip)
        hidden = hidden + _repeat(shared, hidden.shape[0] // shared.shape[0])
        hidden = F.silu(_conditioned(self.norm(hidden), self.film, condition))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return hidden


class _Presence(nn.Module):
    """Is the sound there at all: pooled decoder features against the query."""

    def __init__(self, channels: int, channels_deep: int, query_channels: int) -> None:
        super().__init__()
        pooled = 2 * channels + 2 * channels_deep
        self.layers = nn.Sequential(nn.Linear(pooled + query_channels, 128), nn.SiLU(), nn.Linear(128, 1))

    def forward(self, hidden: Tensor, deep: Tensor, condition: Tensor) -> Tensor:
        pools = [pool for level in (hidden, deep) for pool in (level.mean((2, 3)), level.amax((2, 3)))]
        logits: Tensor = self.layers(torch.cat([*pools, condition], dim=1))
        return logits[:, 0]


def _film(channels: int, query_channels: int | None) -> nn.Linear | None:
    """Scale and shift of every channel from the query's hidden layer, if there is a query."""
    return None if query_channels is None else nn.Linear(query_channels, 2 * channels)


def _conditioned(hidden: Tensor, film: nn.Linear | None, condition: Tensor | None) -> Tensor:
    if film is None or condition is None:
        return hidden
    scale, shift = film(condition)[..., None, None].chunk(2, dim=1)
    return hidden * (1.0 + scale) + shift


def _repeat(hidden: Tensor, times: int | torch.SymInt) -> Tensor:
    """One copy per query, queries of a mixture side by side.

    Copied with the channels last, as the convolutions want them: `repeat_interleave` would put them first, so that all
    would have to be turned round again, and it cannot be exported for a number of queries that is left open.
    """
    if times == 1:
        return hidden
    last = hidden.permute(0, 2, 3, 1)
    return last[:, None].expand(-1, times, -1, -1, -1).flatten(0, 1).permute(0, 3, 1, 2)
