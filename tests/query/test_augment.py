import numpy as np
import pytest
from PIL import Image, ImageDraw

from marssep.query.augment import augment_picture


def drawing(size=(60, 60), mode="RGB"):
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((15, 15, 45, 45), fill="red")
    return picture.convert(mode)


def varied(picture, seed):
    return np.asarray(augment_picture(picture, np.random.default_rng([1, seed])))


def test_the_seed_decides():
    first, again, other = (varied(drawing(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (60, 40)])
def test_any_mode_and_size_stays_as_large(mode, size):
    for seed in range(8):
        assert varied(drawing(size, mode), seed).shape == (size[1], size[0], 3)


def test_the_paper_changes_and_the_thing_stays():
    corners, things = [], []
    for seed in range(40):
        made = varied(drawing(), seed).astype(int)
        corners.append(tuple(made[1, 1]))
        things.append(made[30, 30, 0] - made[30, 30, 1])
    assert 10 < sum(corner == (255, 255, 255) for corner in corners) < 35
    assert np.mean(np.array(things) > 40) > 0.7
