import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from marssep.audio import write_audio
from marssep.corpus.manifest import Item, write_manifest
from marssep.errors import CorpusError, SettingsError, UsageError
from marssep.query import ENCODERS, load_encoder, new_encoder
from marssep.query.heads import MixtureHead
from marssep.train.align import AlignSettings, alignment_data, train_heads
from marssep.train.align_run import run_alignment

TONES = {"low": 200.0, "middle": 1200.0, "high": 5000.0}
COLOURS = {"low": (200, 20, 20), "middle": (20, 200, 20), "high": (20, 20, 200)}


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory):
    """Three labels, each with tones, coloured pictures and two captions."""
    folder, rng, items = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0), []
    for label, hertz in TONES.items():
        for index in range(16):
            split = "val" if index >= 12 else "train"
            shared = {"label": label, "group": "sound", "split": split, "recording": f"{label}/{index}"}
            shared |= {"captions": (f"a {label} tone", f"{label} beep"), "source": "made", "licence": "CC0-1.0"}
            time = np.arange(8000) / 16000
            tone = np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time) + 0.1 * rng.standard_normal(8000)
            write_audio(folder / f"{label}{index}.wav", (0.1 * tone).astype(np.float32), sample_rate=16000)
            noise = rng.integers(-20, 20, (12, 12, 3))
            Image.fromarray(np.uint8(COLOURS[label] + noise)).save(folder / f"{label}{index}.png")
            for kind, ending in (("audio", "wav"), ("image", "png")):
                path = f"{label}{index}.{ending}"
                sha256 = f"{len(items):064x}"
                items.append(Item(id=path, kind=kind, path=path, sha256=sha256, duration=0.5, **shared))
    write_manifest(folder / "manifest.jsonl", items)
    return folder


SETTINGS = {"steps": 150, "batch_size": 32, "learning_rate": 5e-3}


def test_a_run_learns_writes_and_reports(corpus_folder, tmp_path):
    lines = []
    run = run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings=SETTINGS, report=lines.append)
    assert run.score > 0.95
    assert len(lines) >= 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["alignment-stage1.json", "heads.json", "heads.safetensors"]
    card = json.loads((tmp_path / "heads.json").read_text())
    assert card["licences"] == {"CC0-1.0": 72}
    assert card["settings"]["steps"] == 150
    figures = json.loads(run.results.read_text())["retrieval"]
    pairs = {f"{one}->{other}" for one in ("text", "audio", "image") for other in ("text", "audio", "image")}
    assert set(figures) == pairs - {"text->text", "audio->audio", "image->image"}
    assert all(cell["val/sound"]["accuracy"] > 0.9 for cell in figures.values())
    encoder = load_encoder("tiny", heads=run.heads)
    assert encoder.fingerprint == card["fingerprint"]


def test_the_same_seed_gives_the_same_heads(corpus_folder, tmp_path):
    settings = {"steps": 20, "batch_size": 16, "check_every": 10}
    states = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        torch.rand(len(name))  # what others draw in between does not matter
        run_alignment([corpus_folder], tmp_path / name, encoder_name="tiny", settings=settings | {"seed": seed})
        states.append((tmp_path / name / "heads.safetensors").read_bytes())
    assert states[0] == states[1] != states[2]


def test_labels_without_training_items_are_not_learnt_from(corpus_folder):
    from marssep.corpus.store import Corpus
    from marssep.query import TrunkFeatures

    corpus, encoder = Corpus.open(corpus_folder), new_encoder("tiny")
    features = TrunkFeatures.build(corpus, encoder, corpus_folder / ".features")
    data = alignment_data(corpus.items, features)
    assert data.labels == ("high", "low", "middle")
    assert data.describes.sum().item() == 6
    kept = data.audio.where(lambda group: group == "val/sound")
    assert len(kept.groups) == 12
    with pytest.raises(CorpusError, match="split 'train'"):
        alignment_data([item for item in corpus.items if item.split == "val"], features)


def test_training_stops_when_validation_does_not_improve(corpus_folder):
    from marssep.corpus.store import Corpus
    from marssep.query import TrunkFeatures

    corpus, encoder = Corpus.open(corpus_folder), new_encoder("tiny")
    data = alignment_data(corpus.items, TrunkFeatures.build(corpus, encoder, corpus_folder / ".features"))
    settings = AlignSettings(steps=1000, batch_size=16, learning_rate=5e-3, check_every=10, patience=2)
    trained = train_heads(encoder, data, settings)
    assert trained.log[-1]["step"] == trained.step + 20 < 1000
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.fixture
def mixing(monkeypatch):
    """The tiny encoder with a picture head that mixes classes, as `open` has."""
    plain = ENCODERS["tiny"]

    def build(parts):
        encoder = plain(parts)
        encoder.heads["image"] = MixtureHead(192, encoder.dimension)
        return encoder

    monkeypatch.setitem(ENCODERS, "tiny", build)


@pytest.mark.usefixtures("mixing")
def test_the_picture_head_alone_is_fitted_to_the_others(corpus_folder, tmp_path):
    first = run_alignment([corpus_folder], tmp_path / "all", encoder_name="tiny", settings=SETTINGS)
    settings = {"only": "image", "sharpness": 6}
    runs = [
        run_alignment([corpus_folder], tmp_path / name, encoder_name="tiny", settings=settings, heads=first.heads)
        for name in ("one", "two")
    ]
    assert runs[0].heads.read_bytes() == runs[1].heads.read_bytes()
    assert runs[0].score > 0.9
    before, after = load_file(first.heads), load_file(runs[0].heads)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed <= {"image.weight", "image.places"}, "words and sounds stay byte by byte"
    assert "image.weight" in changed
    card = json.loads((tmp_path / "one" / "heads.json").read_text())
    assert card["settings"]["only"] == "all"
    assert card["picture_head"]["settings"]["sharpness"] == 6
    assert card["fingerprint"] == load_encoder("tiny", heads=runs[0].heads).fingerprint
    assert card["words_and_sounds_from"] == load_encoder("tiny", heads=first.heads).fingerprint


@pytest.mark.usefixtures("mixing")
def test_a_picture_lands_near_the_name_of_what_it_shows(corpus_folder, tmp_path):
    run = run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings=SETTINGS)
    encoder = load_encoder("tiny", heads=run.heads)
    pictures = encoder.embed_image([Image.new("RGB", (12, 12), colour) for colour in COLOURS.values()])
    near = pictures @ encoder.embed_text([f"a {label} tone" for label in COLOURS]).T
    assert near.argmax(1).tolist() == [0, 1, 2]
    assert near.diagonal().min() > 0.8


def test_a_picture_head_that_only_a_gradient_trains_cannot_be_fitted_alone(corpus_folder, tmp_path):
    run = run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings={"steps": 2, "batch_size": 8})
    with pytest.raises(UsageError, match="cannot be fitted alone"):
        run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings={"only": "image"}, heads=run.heads)
    with pytest.raises(UsageError, match="without heads"):
        run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings={"only": "image"})


def test_unknown_settings_are_named(corpus_folder, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'noise'"):
        run_alignment([corpus_folder], tmp_path, encoder_name="tiny", settings={"nose": 1})
