"""Pictures as a model wants them: scaled, cut and normalised as its folder says, by Pillow and numpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from marssep.errors import ModelError
from marssep.query.pretrained.folders import read_processor
from marssep.runtime.pictures import flatten_image


@dataclass(frozen=True)
class PictureFrontEnd:
    """How pictures become pixels.

    Attributes:
        shorter: length that the shorter side is scaled to, pixels; 0 scales to `height` and `width` right away.
        height, width: what is cut out of the middle, pixels.
        resample: Pillow's number of the filter (3 is bicubic).
        mean, spread: taken off and divided by, per colour, of values from 0 to 1.
    """

    shorter: int
    height: int
    width: int
    resample: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From the model's folder.

        Raises:
            ModelError: it says nothing, or something else than scale, cut and normalise.
        """
        stated = read_processor(folder, "image_processor")
        try:
            return cls(**_understand(stated))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: its picture preparation is not understood ({error!r}).") from None

    def __call__(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b 3 h w"]:
        """Pixels; transparent parts are white."""
        pixels = np.stack([self._cut(flatten_image(image)) for image in images])
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, spread = (torch.tensor(values)[:, None, None] for values in (self.mean, self.spread))
        return (scaled - mean) / spread

    def _cut(self, image: Image.Image) -> np.ndarray:
        if not self.shorter:
            return np.asarray(image.resize((self.width, self.height), Image.Resampling(self.resample)))
        short = min(image.size)
        width, height = (int(self.shorter * size / short) for size in image.size)
        scaled = image.resize((width, height), Image.Resampling(self.resample))
        left, top = (width - self.width) // 2, (height - self.height) // 2
        return np.asarray(scaled.crop((left, top, left + self.width, top + self.height)))


def _understand(stated: Mapping[str, Any]) -> dict[str, Any]:
    size = stated["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size} if stated.get("do_center_crop") else {"height": size, "width": size}
    shorter = int(size.get("shortest_edge", 0))
    cut = size
    if shorter:
        cut = stated.get("crop_size", shorter) if stated.get("do_center_crop", True) else None
        if cut is None:
            raise ValueError("pictures of different shapes")
        cut = {"height": cut, "width": cut} if isinstance(cut, int) else cut
    return {
        "shorter": shorter,
        "height": int(cut["height"]),
        "width": int(cut["width"]),
        "resample": int(stated.get("resample", 3)),
        "mean": tuple(map(float, stated["image_mean"])),
        "spread": tuple(map(float, stated["image_std"])),
    }
