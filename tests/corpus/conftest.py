"""A miniature corpus, made here."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from marssep.audio import encode_audio
from marssep.corpus.labels import class_of
from marssep.corpus.manifest import Item, write_manifest


def tone(frequency, seconds=0.5, sample_rate=32000):
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def make_corpus(folder, rows, *, name="mini", sample_rate=16000):
    """Write a corpus of tones; a row is (label, split, recording), one item each, and one picture per label."""
    items = []
    for number, (label, split, recording) in enumerate(rows):
        data = encode_audio(tone(200 + 50 * number, sample_rate=sample_rate), sample_rate=sample_rate, format="FLAC")
        items.append(_item(folder, f"{name}/{label}/{number}", data, label, split, recording, "audio"))
    for label in dict.fromkeys(row[0] for row in rows):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(out, format="PNG")
        items.append(_item(folder, f"{name}/pictures/{label}", out.getvalue(), label, "train", "made", "image"))
    write_manifest(folder / "manifest.jsonl", items)
    return items


def _item(folder, id, data, label, split, recording, kind):
    path = f"{kind}/{id.replace('/', '-')}{'.flac' if kind == 'audio' else '.png'}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    return Item(
        id=id,
        kind=kind,
        path=path,
        label=label,
        captions=class_of(label).captions,
        group=class_of(label).group,
        split=split,
        recording=recording,
        source="made here",
        licence="CC0-1.0",
        sha256=hashlib.sha256(data).hexdigest(),
        duration=0.5 if kind == "audio" else 0.0,
        sample_rate=16000 if kind == "audio" else 0,
    )


ROWS = [
    ("dog", "train", "a"),
    ("dog", "train", "b"),
    ("rain", "train", "c"),
    ("rain", "val", "d"),
    ("violin", "test", "e"),
]


@pytest.fixture
def mini(tmp_path):
    """Folder of a miniature corpus."""
    folder = tmp_path / "mini"
    make_corpus(folder, ROWS)
    return folder


@pytest.fixture
def corpus_maker():
    """The function that makes a corpus of tones."""
    return make_corpus


@pytest.fixture
def make_tone():
    """The function that makes a tone."""
    return tone
