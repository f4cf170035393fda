"""A small corpus of made sounds and pictures: for tests, for the `smoke` preset and for a first look."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from marssep.audio import write_audio
from marssep.corpus.manifest import Item, Kind, write_manifest
from marssep.corpus.store import MANIFEST

_RATE = 16000
_SECONDS = 3.0
_SPLITS = ("train", "val", "test")
LABELS = ("tone", "noise", "clicks", "chirp")
"""What the made sounds are; each is told from the others by its spectrum."""


def make_corpus(folder: Path, *, per_split: int = 2, seed: int = 0) -> list[Item]:
    """Write `per_split` recordings and one picture per label and split, with their manifest."""
    rng = np.random.default_rng(seed)
    items = []
    for split in _SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, label in enumerate(LABELS):
            for take in range(per_split):
                path = Path(split) / f"{label}-{take}.wav"
                write_audio(folder / path, _sound(label, rng), sample_rate=_RATE, subtype="PCM_16")
                items.append(_item(folder, path, "audio", label, split))
            path = Path(split) / f"{label}.png"
            picture = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(picture).rectangle((4, 4, 20 + 12 * number, 60), fill=(40 + 60 * number, 30, 200))
            picture.save(folder / path)
            items.append(_item(folder, path, "image", label, split))
    write_manifest(folder / MANIFEST, items)
    return items


def _sound(label: str, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(round(_RATE * _SECONDS)) / _RATE
    pitch = rng.uniform(300, 600)
    if label == "tone":
        sound = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
    elif label == "noise":
        sound = rng.standard_normal(len(time))
    elif label == "clicks":
        sound = np.exp(-300 * (time % rng.uniform(0.1, 0.3))) * rng.standard_normal(len(time))
    else:
        sound = np.sin(2 * np.pi * (2000 + 1500 * np.sin(2 * np.pi * rng.uniform(1, 3) * time)) * time)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _item(folder: Path, path: Path, kind: Kind, label: str, split: str) -> Item:
    return Item(
        id=f"made/{path.with_suffix('')}" + ("-picture" if kind == "image" else ""),
        kind=kind,
        path=str(path),
        label=label,
        captions=(label, f"the sound of {label}"),
        group="sound",
        split=split,
        recording=f"made/{path}",
        source="made by marssep.corpus.made",
        licence="CC0-1.0",
        sha256=hashlib.sha256((folder / path).read_bytes()).hexdigest(),
        duration=_SECONDS if kind == "audio" else 0.0,
        sample_rate=_RATE if kind == "audio" else 0,
    )
