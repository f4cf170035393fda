import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from marssep.audio import resample
from marssep.query.trunks import AudioTrunk, ImageTrunk, TextTrunk
from marssep.query.trunks.audio import pool_patches, resample_waveform
from marssep.query.trunks.image import convert_image_weights, image_pixels
from marssep.runtime.pictures import flatten_image


@pytest.fixture(scope="module")
def audio():
    torch.manual_seed(0)
    return AudioTrunk().requires_grad_(False)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 44_101, 96_000])
def test_resampling_agrees_with_soxr(rate):
    time = np.arange(rate // 2) / rate
    tone = np.sin(2 * np.pi * 440 * time) * np.hanning(len(time))
    ours = resample_waveform(torch.from_numpy(tone.astype(np.float32)), from_rate=rate, to_rate=16_000)
    theirs = resample(tone.astype(np.float32), from_rate=rate, to_rate=16_000)
    n = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1
    np.testing.assert_allclose(ours[:n], theirs[:n], atol=2e-3)


@pytest.mark.parametrize("n", [1, 3, 1_000])
@pytest.mark.parametrize("rate", [1_000, 48_000, 192_001])
def test_resampling_keeps_short_sounds(n, rate):
    made = resample_waveform(torch.ones(2, n), from_rate=rate, to_rate=16_000)
    assert made.shape == (2, math.ceil(n * 16_000 / rate))
    assert made.isfinite().all()


# 15,600 samples fill one patch, and a step takes 7,680 more
@pytest.mark.parametrize(("n", "patches"), [(1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3)])
def test_every_sample_is_in_a_patch(audio, n, patches):
    assert audio.patches(torch.ones(1, n), 16_000).shape == (1, patches, 96, 64)


def test_mel_filters_against_a_plain_computation(audio):
    def mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)

    low, high = mel(125), mel(7500)
    edges = [700 * (10 ** ((low + (high - low) * i / 65) / 2595) - 1) for i in range(66)]
    for band in (0, 17, 63):
        left, centre, right = edges[band : band + 3]
        for row in range(257):
            hertz = row * 16_000 / 512
            wanted = max(0.0, min((hertz - left) / (centre - left), (right - hertz) / (right - centre)))
            assert audio.mel[row, band].item() == pytest.approx(wanted, abs=1e-5)


def test_loud_patches_count_more_and_silence_is_shared_evenly():
    embeddings = torch.eye(2, 1024)[None]
    patches = torch.full((1, 2, 96, 64), math.log(1e-3))
    torch.testing.assert_close(pool_patches(embeddings, patches)[0, :2], torch.tensor([0.5, 0.5]))
    patches[0, 1] = math.log(1.0 + 1e-3)
    assert pool_patches(embeddings, patches)[0, 1] > 0.9


def test_a_pause_hardly_changes_a_sound(audio):
    bark = 0.1 * torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0))
    paused = torch.cat([bark, torch.zeros(1, 64_000)], dim=-1)
    near = torch.cosine_similarity(audio(bark, 16_000), audio(paused, 16_000))
    assert near.item() > 0.95


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "dog": 2, "barking": 3, "rain": 4}
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": {
            "strategy": {"Fixed": 12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    path = tmp_path_factory.mktemp("text") / "tokenizer.json"
    path.write_text(json.dumps(table))
    torch.manual_seed(0)
    return TextTrunk(path).requires_grad_(False).eval()


def test_tokens_are_padded_to_the_longest_text_only(text):
    assert text.tokens(["dog", "dog barking rain"]).tolist() == [[2, 0, 0], [2, 3, 4]]


@pytest.mark.parametrize("training", [True, False])
def test_padding_says_nothing(text, training):
    text.train(training)
    together = text(text.tokens(["dog", "dog barking rain rain"]))
    torch.testing.assert_close(together[:1], text(text.tokens(["dog"])), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_long_texts_are_cut(text):
    assert text.tokens(["dog " * 1000]).shape == (1, 256)


def original_state(trunk):
    """A checkpoint as the package ships it, with batch norms, for an `ImageTrunk` of the same shapes."""
    state = {"_fc.weight": trunk.classifier.weight, "_fc.bias": trunk.classifier.bias}

    def add(convolution, norm, ours):
        channels = ours.weight.shape[0]
        state[f"{convolution}.weight"] = ours.weight
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(channels) + 0.5

    add("_conv_stem", "_bn0", trunk.stem)
    add("_conv_head", "_bn1", trunk.head)
    for index, block in enumerate(trunk.blocks):
        add(f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1", block.depthwise)
        add(f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2", block.project)
        if block.expand is not None:
            add(f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0", block.expand)
    return {key: value.detach().clone() for key, value in state.items()}


@pytest.mark.parametrize(("variant", "width"), [("lite0", 3304), ("lite2", 3376)])
def test_batch_norms_are_folded(variant, width):
    torch.manual_seed(0)
    trunk = ImageTrunk(variant).requires_grad_(False)
    state = original_state(trunk)
    trunk.load_state_dict(convert_image_weights(state))
    convolution = nn.Conv2d(3, 32, 3, stride=2, bias=False)
    norm = nn.BatchNorm2d(32, eps=1e-3).eval()
    convolution.load_state_dict({"weight": state["_conv_stem.weight"]})
    norm.load_state_dict({**norm.state_dict(), **{k[5:]: v for k, v in state.items() if k.startswith("_bn0.")}})
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():  # an even side and stride 2: "same" adds one row and column at the end
        wanted = norm(convolution(nn.functional.pad(pixels, (0, 1, 0, 1))))
    torch.testing.assert_close(trunk.stem(pixels), wanted, atol=1e-5, rtol=1e-5)
    assert trunk(pixels).shape == (1, width)
    assert trunk.n_features == width


@pytest.mark.parametrize("side", [224, 260])
def test_pixels_are_the_centre_of_the_picture(side):
    picture = Image.new("RGB", (448, 224), "black")
    picture.paste((255, 255, 255), (112, 0, 336, 224))
    pixels = image_pixels([picture], side)
    assert pixels.shape == (1, 3, side, side)
    torch.testing.assert_close(
        pixels[0, :, 5, 5], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )


def test_half_transparent_is_half_white():
    assert flatten_image(Image.new("RGBA", (2, 2), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)
    assert flatten_image(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0)) == (255, 255, 255)
