"""`unet`: the separator of the paper and its ancestors (OmniSep, CLIPSep, Sound-of-Pixels).

Seven levels, 32 output maps; the query enters only as a weighting of those maps (paper.md 2.1):
mask logit = sum_c scale_c * sigmoid(W query)_c * map_c + bias. 30.3 M parameters at width 64.
It has no presence output of its own; the mean of its mask stands in for one.

With two noise masks it is CLIPSep-NIT (paper.md 2.2): in training, masks made from the mean of a mixture's queries take
what is in the targets without belonging to the query; afterwards they are left out.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from marssep.model.network import MaskNetwork, MaskOutput
from marssep.settings import Settings
from marssep.spectral import SpectralSettings


class UNetSettings(Settings):
    """Size of a `unet`."""

    width: int = 64
    """Channels of the first level; 64 is the paper's."""
    n_maps: int = 32
    """Output maps that the query weights (the paper's k)."""
    levels: int = 7
    """Halvings of rows and steps; the grid is padded to a multiple of 2**levels."""
    noise_masks: int = Field(default=0, ge=0)
    """Masks of noise-invariant training, as many as a mixture has queries (CLIPSep-NIT: 2); 0: none."""


class UNet(MaskNetwork):
    """The ancestors' U-Net with the query as channel weighting."""

    def __init__(self, settings: UNetSettings, *, spectral: SpectralSettings, query_dimension: int) -> None:
        super().__init__(n_bands=spectral.n_bands, query_dimension=query_dimension)
        self.settings = settings
        self.stride = 2**settings.levels
        width = settings.width
        widths = [min(width * 2**level, 8 * width) for level in range(settings.levels)]
        self.input_norm = nn.BatchNorm2d(1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, (c_in, c) in enumerate(zip((1, *widths[:-1]), widths, strict=True)):
            normed = 0 < level < settings.levels - 1
            self.down.append(_Down(c_in, c, first=level == 0, normed=normed))
            c_out = settings.n_maps if level == 0 else c_in
            innermost = level == settings.levels - 1
            self.up.append(_Up(c if innermost else 2 * c, c_out, last=level == 0))
        self.query = nn.Linear(query_dimension, settings.n_maps)
        self.scale = nn.Parameter(torch.ones(settings.n_maps))
        self.bias = nn.Parameter(torch.zeros(1))
        self.noise = nn.ModuleList(nn.Linear(settings.n_maps, settings.n_maps) for _ in range(settings.noise_masks))
        self.apply(_initialise)

    def forward(self, power: Float[Tensor, "b bands steps"], query: Float[Tensor, "b q d"]) -> MaskOutput:
        """Logits for every query; the U-Net itself runs once per mixture."""
        n_bands, n_steps = power.shape[-2:]
        hidden = 0.5 * torch.log(power + 1e-10)[:, None]  # log magnitude, as the ancestors feed it
        hidden = F.pad(hidden, (0, -n_steps % self.stride, 0, -n_bands % self.stride), mode="replicate")
        hidden = self.input_norm(hidden)
        skips = []
        for down in self.down:
            hidden = down(hidden)
            skips.append(hidden)
        for level in reversed(range(len(self.up))):
            if level < len(self.up) - 1:
                hidden = torch.cat([skips[level], hidden], dim=1)
            hidden = self.up[level](hidden)
        maps, asked = hidden[..., :n_bands, :n_steps], self.query(query)
        logits = self._weigh(asked, maps)
        noise = None
        if self.noise and self.training:
            mean = asked.mean(1)
            noise = self._weigh(torch.stack([head(mean) for head in self.noise], dim=1), maps)
        return MaskOutput(logits, torch.sigmoid(logits).mean((-2, -1)).logit(eps=1e-4), noise)

    def _weigh(self, asked: Float[Tensor, "b m c"], maps: Float[Tensor, "b c bands steps"]) -> Tensor:
        """Logits [b, m, bands, steps] of the masks that weightings of the maps make."""
        weights = torch.sigmoid(asked) * self.scale
        return torch.einsum("bmc,bcft->bmft", weights.to(maps.dtype), maps) + self.bias

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """As `MaskNetwork.sharpen` says; the presence, being the mean mask, changes with it."""
        self.scale.mul_(factor)
        self.bias.mul_(factor)


class _Down(nn.Module):
    def __init__(self, c_in: int, c: int, *, first: bool, normed: bool) -> None:
        super().__init__()
        self.first = first
        self.convolution = nn.Conv2d(c_in, c, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c) if normed else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm(self.convolution(hidden if self.first else F.leaky_relu(hidden, 0.2)))


class _Up(nn.Module):
    def __init__(self, c_in: int, c_out: int, *, last: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=last)
        self.norm = nn.Identity() if last else nn.BatchNorm2d(c_out)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = F.interpolate(F.relu(hidden), scale_factor=2.0, mode="bilinear", align_corners=True)
        return self.norm(self.convolution(hidden))


def _initialise(module: nn.Module) -> None:
    """The ancestors' initial distributions."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.001)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.0001)
