"""Pictures as queries: opened, flattened and cut; for both engines."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, UnidentifiedImageError

from marssep.errors import InputError

SIDES = (224, 260)
"""Side of the pictures that EfficientNet-Lite0 and -Lite2 were trained on, pixels."""
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


def load_image(image: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """Open a picture and decode it.

    Raises:
        InputError: missing, not a picture, or damaged.
    """
    if isinstance(image, Image.Image):
        return image
    path = Path(image)
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened.copy()
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture; check the path.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as a picture ({cause}); use PNG, JPEG or WebP.") from None


def flatten_image(image: Image.Image) -> Image.Image:
    """RGB picture; transparent parts become white, as on paper."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def image_pixels(images: Sequence[Image.Image], side: int) -> Float32[np.ndarray, "b 3 side side"]:
    """Shorter side scaled (bicubic), centre cut out, ImageNet's mean and spread taken off.

    Args:
        images: of any size.
        side: of what the network sees, pixels.
    """
    rows = []
    for image in images:
        scale = side / min(image.size)
        width, height = (max(side, round(size * scale)) for size in image.size)
        scaled = flatten_image(image).resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        rows.append(np.asarray(scaled.crop((left, top, left + side, top + side)), dtype=np.float32))
    pixels = np.stack(rows).transpose(0, 3, 1, 2) / np.float32(255)
    return np.ascontiguousarray((pixels - _MEAN) / _STD)
