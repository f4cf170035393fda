"""Variants of a picture to train on: another place, size, angle, colour and background, the same thing."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from marssep.runtime.pictures import flatten_image

_PAPER = 235  # a level from which on a pixel counts as blank paper
_TURN = 15.0  # degrees, either way
_SCALE = (0.6, 1.2)
_STRETCH = 0.15  # largest logarithm of the change of width against height
_SHIFT = 0.08  # of the width, either way


def augment_picture(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One random variant of a picture, RGB, as large as it.

    Mirrored, turned, scaled, stretched and shifted; blank paper around the thing may become a colour, a gradient or
    soft noise; hue, saturation, brightness and contrast vary; some variants are grey, some blurred.

    Args:
        image: the picture.
        rng: source of the variation.
    """
    flat = flatten_image(image)
    thing = flat.copy()
    thing.putalpha(_outline(np.asarray(flat)))
    thing = _moved(thing, rng)
    if rng.random() < 0.6:
        thing = _recoloured(thing, rng)
    made = _background(flat.size, rng)
    made.paste(thing, (0, 0), thing.getchannel("A"))
    if rng.random() < 0.15:
        made = made.convert("L").convert("RGB")
    if rng.random() < 0.25:
        made = made.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    return made


def _outline(pixels: np.ndarray) -> Image.Image:
    """Opaque everywhere but on the blank paper that reaches the border."""
    from scipy import ndimage  # for training only, and its import takes longer than loading the encoder

    regions, _ = ndimage.label(pixels.min(-1) >= _PAPER)
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    paper = np.isin(regions, border[border > 0])
    return Image.fromarray(np.where(paper, 0, 255).astype(np.uint8))


def _moved(thing: Image.Image, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = np.deg2rad(rng.uniform(-_TURN, _TURN))
    scale = np.exp(rng.uniform(*np.log(_SCALE)))
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH))
    shift = rng.uniform(-_SHIFT, _SHIFT, 2) * thing.width
    cos, sin = np.cos(angle), np.sin(angle)
    # PIL asks where a pixel of the result comes from
    back = np.array([[cos, sin], [-sin, cos]]) / (scale * np.array([[stretch], [1 / stretch]]))
    centre = np.array(thing.size) / 2
    offset = centre - back @ (centre + shift)
    matrix = (*back[0], offset[0], *back[1], offset[1])
    clear = (255, 255, 255, 0)
    return thing.transform(
        thing.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=clear
    )


def _recoloured(thing: Image.Image, rng: np.random.Generator) -> Image.Image:
    hue, saturation, value = thing.convert("RGB").convert("HSV").split()
    turn = int(rng.normal() * 10)
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    made = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    made = ImageEnhance.Color(made).enhance(rng.uniform(0.3, 1.4))
    made = ImageEnhance.Brightness(made).enhance(rng.uniform(0.7, 1.3))
    made = ImageEnhance.Contrast(made).enhance(rng.uniform(0.7, 1.3))
    made.putalpha(thing.getchannel("A"))
    return made


def _background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Half the time white, else one colour, a gradient or noise of few, soft spots."""
    draw = rng.random()
    if draw < 0.5:
        return Image.new("RGB", size, "white")
    rows, columns = (8, 8) if draw >= 0.9 else (2, 1)
    colours = rng.integers(0, 256, (rows, columns, 3)).astype(np.uint8)
    if draw < 0.75:
        colours = colours[:1, :1]
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
