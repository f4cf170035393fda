import logging
import sys
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from marssep.errors import ModelError
from marssep.query import load_encoder


class StandIn(torch.nn.Module):
    """What ImageBind's model promises: a dictionary in and out, clips of a sound averaged."""

    shapes = {"text": (77,), "audio": (1, 128, 204), "vision": (3, 224, 224)}

    def __init__(self):
        super().__init__()
        self.heads = torch.nn.ParameterDict({name: torch.zeros(8, 1024) for name in self.shapes})

    def forward(self, inputs):
        made = {}
        for name, values in inputs.items():
            clips = values if values.ndim == 5 else values[:, None]
            assert clips.shape[2:] == self.shapes[name]
            flat = clips.float().flatten(2)
            parts = torch.stack([part.mean(-1) for part in flat.tensor_split(8, dim=-1)], dim=-1)
            made[name] = (parts @ self.heads[name]).mean(1)
        return made


def library():
    package, data, models, model = (
        ModuleType(f"imagebind{part}") for part in ("", ".data", ".models", ".models.imagebind_model")
    )
    model.imagebind_huge = lambda pretrained: StandIn() if not pretrained else pytest.fail("must not download")
    data.load_and_transform_text = lambda texts, device: torch.tensor(
        [[ord(letter) % 50 for letter in text.ljust(77)[:77]] for text in texts]
    )
    return {module.__name__: module for module in (package, data, models, model)}


@pytest.fixture
def weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = {f"heads.{name}": torch.randn(8, 1024, generator=generator) for name in StandIn.shapes}
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def encoder(weights, monkeypatch, caplog):
    for name, module in library().items():
        monkeypatch.setitem(sys.modules, name, module)
    with caplog.at_level(logging.WARNING):
        made = load_encoder(f"imagebind:{weights}")
    assert "CC BY-NC-SA 4.0" in caplog.text
    return made


@pytest.mark.parametrize("length", [1, 399, 16_000, 32_000, 32_001, 200_000])
def test_sounds_of_any_length_with_gradient(encoder, length):
    sound = (0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(length))).requires_grad_()
    placed = encoder.embed_audio(sound, sample_rate=16_000)
    torch.testing.assert_close(placed.norm(dim=-1), torch.ones(2))
    assert torch.equal(placed, encoder.embed_audio(sound.clone(), sample_rate=16_000))
    placed[0, 0].backward()
    assert sound.grad.isfinite().all()
    assert length < 2 or all(float(part.abs().max()) > 0 for part in sound.grad[0].split(max(1, length // 4)))


def test_words_and_pictures(encoder):
    placed = torch.cat([encoder.embed_text(["dog", "rain"]), encoder.embed_image([Image.new("L", (300, 40), 90)])])
    torch.testing.assert_close(placed.norm(dim=-1), torch.ones(3))
    assert encoder.fingerprint.startswith("imagebind-")


def test_without_package_or_weights(weights, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"no model\.safetensors; make it with 'marssep models convert"):
        load_encoder(f"imagebind:{tmp_path / 'nowhere'}")
    monkeypatch.setitem(sys.modules, "imagebind", None)
    with pytest.raises(ModelError, match=r"needs the package imagebind .* CC BY-NC-SA"):
        load_encoder(f"imagebind:{weights}")


def test_other_weights_are_refused(weights, monkeypatch):
    for name, module in library().items():
        monkeypatch.setitem(sys.modules, name, module)
    save_file({"a": torch.ones(1)}, weights / "model.safetensors")
    with pytest.raises(ModelError, match="not ImageBind's weights"):
        load_encoder(f"imagebind:{weights}")
