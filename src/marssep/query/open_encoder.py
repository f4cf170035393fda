"""The encoder `open`: MiniLM, YAMNet and two EfficientNets under heads trained on openly licensed sounds."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.errors import ModelError
from marssep.query.encoder import QueryEncoder
from marssep.query.heads import MixtureHead, NamingHead, PlainHead, ProjectionHead
from marssep.query.hearing import AudioParts
from marssep.query.trunks import AudioTrunk, ImageTrunk, TextTrunk
from marssep.query.trunks.audio import patch_power, pool_patches
from marssep.query.trunks.building import WithoutInitialising
from marssep.query.trunks.image import image_pixels
from marssep.query.weights import weights_folder

DIMENSION = 512


class OpenEncoder(QueryEncoder):
    """Four frozen trunks of 37 million parameters in all; see docs/encoders.md for what each can do."""

    name = "open"

    def __init__(self) -> None:
        """Load the trunks from the cache; the heads are not trained until `load_heads`.

        Raises:
            ModelError: if the weights were not fetched or are damaged.
        """
        folder = weights_folder(self.name)
        with WithoutInitialising():
            text, audio = TextTrunk(folder / "tokenizer.json"), AudioTrunk()
            image, second = ImageTrunk("lite0"), ImageTrunk("lite2")
        for part, trunk in {"text": text, "audio": audio, "image": image, "image2": second}.items():
            _load_trunk(trunk, folder / f"{part}.safetensors")
        for trunk in (audio, image, second):
            # 2 to 3 times as fast on a CPU
            trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            heads: dict[str, nn.Module] = {
                "text": ProjectionHead(text.n_features, DIMENSION),
                "audio": ProjectionHead(audio.n_features, DIMENSION),
                "image": MixtureHead(image.n_features + second.n_features, DIMENSION),
            }
        super().__init__(DIMENSION, heads, f"{self.name}-untrained")
        self.text_trunk, self.audio_trunk = text, audio
        self.image_trunk, self.second_image_trunk = image, second

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float32[Tensor, "b 384"]:
        """MiniLM's mean of token states."""
        features: Tensor = self.text_trunk(self.text_trunk.tokens(texts).to(self.device))
        return features

    def audio_features(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b 1024"]:
        """YAMNet's mean over patches."""
        features: Tensor = self.audio_trunk(waveform, sample_rate)
        return features

    def audio_crops(
        self, waveform: Float32[Tensor, " n"], sample_rate: int, spans: Sequence[tuple[float, float]]
    ) -> Float32[Tensor, "k 1024"]:
        """As the base class says, in one run of the trunk."""
        return self.audio_trunk.crops(waveform, sample_rate, spans)

    def audio_parts(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> AudioParts:
        """As the base class says, by the patches that the trunk takes anyway."""
        patches = self.audio_trunk.patches(waveform, sample_rate)
        features = self.audio_trunk.embed_patches(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        return AudioParts(pool_patches(features, patches), features, patch_power(patches))

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b 6680"]:
        """Pooled head and stages of EfficientNet-Lite0, then of EfficientNet-Lite2."""
        trunks = (self.image_trunk, self.second_image_trunk)
        return torch.cat([trunk(image_pixels(images, trunk.side).to(self.device)) for trunk in trunks], dim=-1)

    def vocabulary(self) -> list[str]:
        """The 521 class names of AudioSet and the 1000 of ImageNet."""
        return _audioset_classes() + _imagenet_classes()

    def stock_heads(self) -> dict[str, nn.Module]:
        """The space of MiniLM: sounds and pictures are where the names of their likeliest classes are."""
        heads: dict[str, nn.Module] = {"text": PlainHead(DIMENSION)}
        tables = {
            "audio": (self.audio_trunk.classifier, _audioset_classes(), False),
            "image": (self.image_trunk.classifier, _imagenet_classes(), True),
        }
        for kind, (classifier, names, exclusive) in tables.items():
            places = F.normalize(
                torch.cat([self.text_features(names[at : at + 64]) for at in range(0, len(names), 64)])
            )
            heads[kind] = NamingHead(classifier, places, exclusive=exclusive, dimension=DIMENSION)
        return heads


def _audioset_classes() -> list[str]:
    names: list[str] = json.loads((weights_folder("open") / "audioset_classes.json").read_text(encoding="utf-8"))
    return names


def _imagenet_classes() -> list[str]:
    table = (Path(__file__).parent / "trunks" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return [line for line in table.splitlines() if not line.startswith("#")]


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        trunk.load_state_dict(load_file(path), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ModelError(f"{path}: damaged ({cause}); run 'marssep models fetch open --force'.") from None
