"""The anchor z*: what a separation is compared with, made of the target's own sound, its name and its picture (Eq. 5).

Only the side of the target is fused; the separation keeps its own embedding.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from marssep.settings import Settings


class AnchorSettings(Settings):
    """Of the anchors that are trained."""

    rank: int = 64
    """Of the bilinear pooling."""
    shortcut: bool = True
    """Add the mean of the modalities to the bilinear pooling (Kim et al. 2017, section 3.3)."""
    start: Literal["random", "sound"] = "random"
    """`sound`: the pooling passes the sound through its rank at first, scaled by the other modalities alike."""


class _Anchor(nn.Module):
    """Embeddings of the target in, one unit-norm embedding out; a missing picture is None."""

    def __init__(self, dimension: int, settings: AnchorSettings) -> None:
        super().__init__()
        self.dimension, self.settings = dimension, settings


class TextAnchor(_Anchor):
    """The name alone: needs no target, and is the easiest to fool."""

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """The text embedding."""
        return F.normalize(text, dim=-1)


class AudioAnchor(_Anchor):
    """The target's own sound alone."""

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """The audio embedding."""
        return F.normalize(audio, dim=-1)


class MeanAnchor(_Anchor):
    """The mean of all that is known."""

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Normalised sum."""
        return F.normalize(_stack(audio, text, image).sum(0), dim=-1)


class LearnableAnchor(_Anchor):
    """A weighted mean whose three weights are trained; those of the modalities at hand are brought to sum 1."""

    def __init__(self, dimension: int, settings: AnchorSettings) -> None:
        super().__init__(dimension, settings)
        self.logits = nn.Parameter(torch.zeros(3))

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Normalised weighted sum."""
        given = _stack(audio, text, image)
        weights = self.logits[: len(given)].softmax(0)
        return F.normalize((weights[:, None, None] * given).sum(0), dim=-1)


class MaxAnchor(_Anchor):
    """The largest entry of every dimension."""

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Normalised element-wise maximum."""
        return F.normalize(_stack(audio, text, image).amax(0), dim=-1)


class BilinearAnchor(_Anchor):
    """Multimodal low-rank bilinear pooling (Kim et al. 2017, arXiv:1610.04325).

    `z* = P (tanh(U_a a) * tanh(U_t t) * tanh(U_v v))`, the last factor left out without a picture, plus the mean of
    the modalities where the settings ask for the shortcut; brought to length 1. The paper does not say how it is
    trained: here by the ranking of separations, with the embeddings held fixed.
    """

    def __init__(self, dimension: int, settings: AnchorSettings) -> None:
        super().__init__(dimension, settings)
        self.inward = nn.ModuleList(nn.Linear(dimension, settings.rank) for _ in range(3))
        self.outward = nn.Linear(settings.rank, dimension, bias=False)
        for layer in self.inward:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=1.0)  # inputs have length 1
            nn.init.ones_(layer.bias)  # a factor near 1 lets the others through
        nn.init.normal_(self.outward.weight, std=0.1 * settings.rank**-0.5)
        if settings.start == "sound":
            self._pass_sound()

    def _pass_sound(self) -> None:
        sound, *others = self.inward
        assert isinstance(sound, nn.Linear)
        nn.init.orthogonal_(sound.weight)
        nn.init.zeros_(sound.bias)
        for layer in others:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
        with torch.no_grad():
            self.outward.weight.copy_(sound.weight.T)

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], image: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Normalised pooling."""
        given = _stack(audio, text, image)
        product = torch.ones_like(given[0, :, :1])
        for layer, rows in zip(self.inward, given, strict=False):
            product = product * torch.tanh(layer(rows))
        made = self.outward(product)
        if self.settings.shortcut:
            made = made + given.mean(0)
        return F.normalize(made, dim=-1)


ANCHORS: Mapping[str, type[_Anchor]] = {
    "text": TextAnchor,
    "audio": AudioAnchor,
    "mean": MeanAnchor,
    "learnable": LearnableAnchor,
    "max": MaxAnchor,
    "mlbp": BilinearAnchor,
}


def build_anchors(dimension: int, settings: AnchorSettings) -> nn.ModuleDict:
    """One of each; `learnable` and `mlbp` are not trained yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.ModuleDict({name: build(dimension, settings) for name, build in ANCHORS.items()})


def _stack(audio: Tensor, text: Tensor, image: Tensor | None) -> Tensor:
    return torch.stack([audio, text] if image is None else [audio, text, image])
