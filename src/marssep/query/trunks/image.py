"""EfficientNet-Lite0 and -Lite2 (ImageNet-1k): picture to features, batch norms folded into the convolutions."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.runtime.pictures import SIDES as ALL_SIDES
from marssep.runtime.pictures import image_pixels as cut_pixels

N_CLASSES = 1000
Variant = Literal["lite0", "lite2"]
SIDES: dict[Variant, int] = dict(zip(("lite0", "lite2"), ALL_SIDES, strict=True))
"""Side of the pictures that each network was trained on."""
_BATCH_NORM_EPSILON = 1e-3
# kernel, stride and expansion of each stage
_KINDS = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# how often each is repeated, and its channels
_SIZES: dict[Variant, tuple[tuple[int, int], ...]] = {
    "lite0": ((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)),
    "lite2": ((1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)),
}


class _Convolution(nn.Conv2d):
    """Convolution with the padding of TensorFlow's "same"."""

    def forward(self, grid: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            needed = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in grid.shape[-2:]]
            grid = F.pad(grid, (needed[1] // 2, needed[1] - needed[1] // 2, needed[0] // 2, needed[0] - needed[0] // 2))
        return super().forward(grid)


class _Block(nn.Module):
    """Inverted bottleneck: expand, filter each channel, project; added to its input where shapes allow."""

    def __init__(self, width: int, channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = _Convolution(width, inner, 1) if expansion > 1 else None
        self.depthwise = _Convolution(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _Convolution(inner, channels, 1)
        self.residual = stride == 1 and width == channels

    def forward(self, grid: Tensor) -> Tensor:
        inner = grid if self.expand is None else F.relu6(self.expand(grid))
        made: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return made + grid if self.residual else made


_WIDTH = 1280  # of the network's head


class ImageTrunk(nn.Module):
    """Stem, 16 or 21 blocks, head; what is pooled is the head and the last five stages.

    The head is trained to tell photographs apart; drawings are told apart better with the stages before it.
    """

    def __init__(self, variant: Variant = "lite0") -> None:
        """Random weights.

        Args:
            variant: size of the network.
        """
        super().__init__()
        self.side = SIDES[variant]
        self.stem = _Convolution(3, 32, 3, stride=2)
        blocks: list[_Block] = []
        ends, width = [], 32
        for (kernel, stride, expansion), (repeats, channels) in zip(_KINDS, _SIZES[variant], strict=True):
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(_Block(width, channels, kernel=kernel, stride=step, expansion=expansion))
                width = channels
            ends.append(len(blocks) - 1)
        self._pooled = set(ends[2:])
        self.n_features = 2 * _WIDTH + sum(channels for _, channels in _SIZES[variant][2:])
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(width, _WIDTH, 1)
        self.classifier = nn.Linear(_WIDTH, N_CLASSES)

    def forward(self, pixels: Float32[Tensor, "b 3 h w"]) -> Float32[Tensor, "b f"]:
        """Features of pictures from `image_pixels`.

        Mean of the head (1280, what `classifier` takes), its maximum, then the means of stages 3 to 7.
        """
        grid, means = F.relu6(self.stem(pixels)), []
        for index, block in enumerate(self.blocks):
            grid = block(grid)
            if index in self._pooled:
                means.append(grid.mean((2, 3)))
        last = F.relu6(self.head(grid))
        return torch.cat([last.mean((2, 3)), last.amax((2, 3)), *means], dim=1)


def image_pixels(images: Sequence[Image.Image], side: int = SIDES["lite0"]) -> Float32[Tensor, "b 3 side side"]:
    """Pictures of any size as the networks take them; see `marssep.runtime.pictures.image_pixels`."""
    return torch.from_numpy(cut_pixels(images, side))


def convert_image_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the batch norms of the EfficientNet-PyTorch checkpoint and rename its tensors to those of `ImageTrunk`."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for block in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
        old = f"_blocks.{block}."
        parts = {"depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
        if block > 0:
            parts["expand"] = ("_expand_conv", "_bn0")
        for ours, (convolution, norm) in parts.items():
            pairs[f"blocks.{block}.{ours}"] = (old + convolution, old + norm)
    made = {"classifier.weight": state["_fc.weight"], "classifier.bias": state["_fc.bias"]}
    for ours, (convolution, norm) in pairs.items():
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BATCH_NORM_EPSILON).sqrt()
        made[f"{ours}.weight"] = state[f"{convolution}.weight"] * gain[:, None, None, None]
        made[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return made
