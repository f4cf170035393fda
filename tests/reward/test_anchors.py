import math

import pytest
import torch

from marssep.reward.anchors import ANCHORS, AnchorSettings, BilinearAnchor, build_anchors


def unit(n, d, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def plain_mlbp(anchor, given, *, shortcut):
    """The formula, number by number, for one row."""
    product = [1.0] * anchor.settings.rank
    for layer, values in zip(anchor.inward, given, strict=False):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        for r in range(len(product)):
            product[r] *= math.tanh(bias[r] + sum(w * v for w, v in zip(weight[r], values, strict=True)))
    made = [sum(w * p for w, p in zip(row, product, strict=True)) for row in anchor.outward.weight.tolist()]
    if shortcut:
        made = [value + sum(column) / len(given) for value, column in zip(made, zip(*given, strict=True), strict=True)]
    length = math.sqrt(sum(value * value for value in made))
    return [value / length for value in made]


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("with_image", [True, False])
def test_mlbp_is_its_formula(shortcut, with_image):
    torch.manual_seed(1)
    anchor = BilinearAnchor(5, AnchorSettings(rank=3, shortcut=shortcut))
    parts = [unit(2, 5, seed=k) for k in range(3 if with_image else 2)]
    made = anchor(*parts)
    for row in range(2):
        wanted = plain_mlbp(anchor, [part[row].tolist() for part in parts], shortcut=shortcut)
        assert made[row].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ANCHORS)
def test_every_anchor_has_length_one_with_and_without_a_picture(name):
    anchor = build_anchors(8, AnchorSettings(rank=4))[name]
    audio, text, image = (unit(3, 8, seed=k) for k in range(3))
    for shown in (None, image):
        made = anchor(audio, text, shown)
        torch.testing.assert_close(made.norm(dim=1), torch.ones(3))


def test_simple_anchors_are_what_they_say():
    anchors = build_anchors(8, AnchorSettings(rank=4))
    audio, text, image = (unit(3, 8, seed=k) for k in range(3))
    torch.testing.assert_close(anchors["text"](audio, text, image), text)
    torch.testing.assert_close(anchors["audio"](audio, text, image), audio)
    mean = torch.nn.functional.normalize(audio + text + image, dim=-1)
    torch.testing.assert_close(anchors["mean"](audio, text, image), mean)
    torch.testing.assert_close(anchors["learnable"](audio, text, image), mean)  # equal weights before training
    largest = torch.nn.functional.normalize(torch.maximum(audio, text), dim=-1)
    torch.testing.assert_close(anchors["max"](audio, text), largest)


def test_building_anchors_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    build_anchors(8, AnchorSettings())
    assert torch.rand(1) == wanted


def test_a_pooling_that_passes_the_sound_is_the_sound_at_first():
    torch.manual_seed(0)
    anchor = BilinearAnchor(64, AnchorSettings(rank=64, shortcut=False, start="sound"))
    audio, text, image = (unit(3, 64, seed=k) for k in range(3))
    for shown in (None, image):
        near = (anchor(audio, text, shown) * audio).sum(1)
        assert near.min() > 0.999
