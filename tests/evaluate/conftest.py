"""A corpus of three bands of noise, an encoder that knows them by name, and a network whose leakage is planted.

The three classes lie in bands that do not overlap, so a mask that passes one band and lets the others through at
`leakage` improves the SI-SDR by -20 log10(leakage) dB: what an evaluation must find is known.
"""

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from marssep.audio import write_audio
from marssep.corpus.manifest import Item, write_manifest
from marssep.corpus.mixing import MixtureSpec, QuerySpec, SourceSpec
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.model import LoadedModel, MaskNetwork, MaskOutput, ModelConfig
from marssep.query import QueryEncoder
from marssep.separate import Separator
from marssep.spectral import Spectrogram

LABELS = ("drone", "chatter", "hiss")
GROUPS = ("instrument", "speech", "sound")
COLOURS = ("red", "green", "blue")
BANDS = ((100, 800), (1500, 3500), (6000, 12000))  # Hz


@pytest.fixture(scope="session")
def simulation() -> ModuleType:
    """The made study and raters of the listening test."""
    path = Path(__file__).parents[2] / "benchmarks" / "listening_simulation.py"
    spec = importlib.util.spec_from_file_location("listening_simulation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three recordings and a picture of each class."""
    folder = tmp_path_factory.mktemp("corpus")
    items = []
    for index, label in enumerate(LABELS):
        for take in range(3):
            name = f"{label}-{take}"
            write_audio(folder / f"{name}.wav", band_noise(index, take), sample_rate=CORPUS_RATE)
            items.append(made_item(index, name, f"{name}.wav", kind="audio"))
        Image.new("RGB", (16, 16), COLOURS[index]).save(folder / f"{label}.png")
        items.append(made_item(index, f"{label}-picture", f"{label}.png", kind="image"))
    write_manifest(folder / "manifest.jsonl", items)
    return Corpus.open(folder)


def made_item(index: int, name: str, path: str, *, kind: str) -> Item:
    """A manifest line."""
    return Item(
        id=name,
        kind=kind,
        path=path,
        label=LABELS[index],
        captions=(LABELS[index],),
        group=GROUPS[index],
        split="test",
        recording=name,
        source="made",
        licence="CC0-1.0",
        sha256=f"{name:0<64}",
        duration=1.0 if kind == "audio" else 0.0,
        sample_rate=CORPUS_RATE if kind == "audio" else 0,
    )


def band_noise(index: int, seed: int) -> np.ndarray:
    """One second of noise in one class's band."""
    spectrum = np.fft.rfft(np.random.default_rng((index, seed)).standard_normal(CORPUS_RATE))
    frequency = np.fft.rfftfreq(CORPUS_RATE, 1 / CORPUS_RATE)
    low, high = BANDS[index]
    noise = np.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)))
    return (0.1 * noise / noise.std()).astype(np.float32)


def made_query(index: int, take: int) -> QuerySpec:
    """A query by every modality."""
    label = LABELS[index]
    return QuerySpec(label=label, text=label, audio=f"{label}-{take}", image=f"{label}-picture")


@pytest.fixture(scope="session")
def specs() -> list[MixtureSpec]:
    """Six mixtures of two classes, each with a query for the third."""
    made = []
    for number in range(6):
        first, second, third = (number % 3, (number + 1) % 3, (number + 2) % 3)
        sources = tuple(
            SourceSpec(f"{LABELS[index]}-0", LABELS[index], 0.0, 0.0, 0.1, level)
            for index, level in ((first, 0.0), (second, float(number - 3)))
        )
        queries = (made_query(first, 1), made_query(second, 2))
        made.append(MixtureSpec(f"mix-{number}", 1.0, sources, queries, absent=made_query(third, 1)))
    return made


class BandEncoder(QueryEncoder):
    """One axis for each class, whatever it is asked with."""

    name: ClassVar[str] = "tiny"

    def __init__(self) -> None:
        super().__init__(3, {kind: _Unit() for kind in ("text", "audio", "image")}, "bands")

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(3)[[LABELS.index(text) for text in texts]]

    def audio_features(self, waveform: Tensor, sample_rate: int) -> Tensor:
        power = torch.fft.rfft(waveform).abs().square()
        hertz = torch.arange(power.shape[-1]) * sample_rate / waveform.shape[-1]
        inside = [((hertz >= low) & (hertz <= high)).float() for low, high in BANDS]
        return torch.eye(3)[torch.stack([(power * band).sum(-1) for band in inside], -1).argmax(-1)]

    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.eye(3)[[int(np.asarray(image).sum((0, 1)).argmax()) for image in images]]


class _Unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight


class BandNetwork(MaskNetwork):
    """Passes the band asked for and lets the others through at `leakage`; hears presence where the band has power."""

    def __init__(self, leakage: float, *, deaf: bool = False) -> None:
        super().__init__(n_bands=128, query_dimension=3)
        hertz = Spectrogram().band_frequencies()
        edges = [1000.0, 5000.0]
        self.inside = torch.stack(
            [(torch.bucketize(hertz, torch.tensor(edges)) == index) for index in range(3)]
        ).float()
        self.leak = math.log(leakage / (1 - leakage))
        self.deaf = deaf

    def forward(self, power: Tensor, query: Tensor) -> MaskOutput:
        inside = query.clamp(0, 1) @ self.inside
        logits = (self.leak + (12.0 - self.leak) * inside)[..., None].expand(-1, -1, -1, power.shape[-1])
        share = (inside @ power.mean(-1)[..., None])[..., 0] / power.mean(-1).sum(-1, keepdim=True)
        return MaskOutput(logits, torch.zeros_like(share) if self.deaf else torch.log(share + 1e-6) + 6.0)

    def sharpen(self, factor: float) -> None:
        raise NotImplementedError


@pytest.fixture(scope="session")
def separator_with() -> Callable[..., Separator]:
    """A separator whose network leaks by a known factor."""

    def build(leakage: float, *, deaf: bool = False, threshold: float = 0.5) -> Separator:
        config = ModelConfig(encoder="tiny", query_dimension=3, presence_threshold=threshold, chunk_steps=32)
        model = LoadedModel(BandNetwork(leakage, deaf=deaf).eval(), config, {}, "0" * 64)
        return Separator(model, BandEncoder().eval(), name="bands")

    return build
