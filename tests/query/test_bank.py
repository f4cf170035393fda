import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from marssep.errors import CorpusError
from marssep.query import EmbeddingBank, TrunkFeatures, load_encoder
from marssep.query import features as features_module
from marssep.query.features import N_CROPS, N_VARIANTS


@dataclass
class Thing:
    id: str
    kind: str
    captions: tuple
    sha256: str = ""
    split: str = "train"

    def __post_init__(self):
        self.sha256 = self.sha256 or hashlib.sha256(self.id.encode()).hexdigest()


@dataclass
class MadeCorpus:
    items: list
    read: list = field(default_factory=list)

    def audio(self, id):
        self.read.append(id)
        length = {"dog/1": 64_000, "dog/2": 3, "rain/1": 800_000}[id]
        return np.random.default_rng(len(id)).standard_normal(length).astype(np.float32) / 10

    def image(self, id):
        self.read.append(id)
        return Image.new("RGB", (20, 10), "red")


def made_corpus():
    things = [Thing(name, "audio", ("a dog", "woof")) for name in ("dog/1", "dog/2", "rain/1")]
    return MadeCorpus([*things, Thing("dog/picture", "image", ("a dog", "hound"))])


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("tiny")


def test_bank_has_what_the_encoder_says(encoder, tmp_path):
    corpus, seen = made_corpus(), []
    bank = EmbeddingBank.build(corpus, encoder, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    assert bank.audio("dog/2").shape == (N_CROPS, 16)
    assert bank.image("dog/picture").shape == (1, 16)
    assert bank.text("woof").dtype == np.float16
    wanted = encoder.embed_audio(torch.from_numpy(corpus.audio("dog/1"))[None], sample_rate=32_000)
    np.testing.assert_allclose(bank.audio("dog/1")[0], wanted[0].numpy(), atol=5e-3)
    np.testing.assert_allclose(bank.text("hound"), encoder.embed_text(["hound"])[0].numpy(), atol=5e-3)
    lengths = np.linalg.norm(bank.audio("rain/1").astype(np.float32), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=5e-3)
    assert np.ptp(bank.audio("rain/1"), axis=0).max() > 0, "the crops differ"


def test_bank_is_computed_once(encoder, tmp_path):
    first = EmbeddingBank.build(made_corpus(), encoder, tmp_path)
    corpus = made_corpus()
    again = EmbeddingBank.build(corpus, encoder, tmp_path)
    assert corpus.read == []
    for name, rows in first.of_audio.items():
        np.testing.assert_array_equal(rows, again.audio(name))


def test_only_new_content_is_computed(encoder, tmp_path):
    small = made_corpus()
    small.items = small.items[:1]
    EmbeddingBank.build(small, encoder, tmp_path)
    corpus = made_corpus()
    EmbeddingBank.build(corpus, encoder, tmp_path)
    assert "dog/1" not in corpus.read
    assert "dog/2" in corpus.read


def test_other_heads_make_another_bank_from_the_same_features(encoder, tmp_path):
    first = EmbeddingBank.build(made_corpus(), encoder, tmp_path)
    other = load_encoder("tiny")
    torch.nn.init.normal_(other.heads["audio"].linear.weight)
    other.fingerprint = "tiny-other"
    corpus = made_corpus()
    second = EmbeddingBank.build(corpus, other, tmp_path)
    assert corpus.read == []
    assert np.abs(first.audio("dog/1") - second.audio("dog/1")).max() > 0.1


def test_training_pictures_have_variants_and_pictures_a_file_of_their_own(encoder, tmp_path):
    corpus = made_corpus()
    corpus.items.append(Thing("rain/picture", "image", ("rain",), split="val"))
    features = TrunkFeatures.build(corpus, encoder, tmp_path)
    drawn, other = (item.sha256 for item in corpus.items[-2:])
    assert set(features.variant) == {drawn}
    assert set(features.image) == {drawn, other}
    assert features.variant[drawn].shape == (N_VARIANTS, features.image[drawn].shape[1])
    assert np.ptp(features.variant[drawn].astype(np.float32), axis=0).max() > 0, "the variants differ"
    (pictures,) = tmp_path.glob("pictures-*")
    pictures.unlink()
    again = made_corpus()
    made = TrunkFeatures.build(again, encoder, tmp_path)
    assert set(again.read) == {"dog/picture"}
    np.testing.assert_array_equal(made.variant[drawn], features.variant[drawn])


def test_a_damaged_cache_is_made_again(encoder, tmp_path):
    TrunkFeatures.build(made_corpus(), encoder, tmp_path)
    (path,) = tmp_path.glob("features-*")
    path.write_bytes(path.read_bytes()[:100])
    features = TrunkFeatures.build(made_corpus(), encoder, tmp_path)
    assert len(features.audio) == 3
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_not_in_the_bank_is_named(encoder, tmp_path):
    bank = EmbeddingBank.build(made_corpus(), encoder, tmp_path)
    with pytest.raises(CorpusError, match="recording 'cat/1'"):
        bank.audio("cat/1")


def test_new_content_goes_into_files_of_its_own(encoder, tmp_path, monkeypatch):
    """A large corpus is not written again with every thousand items."""
    monkeypatch.setattr(features_module, "_SAVE_EVERY", 2)
    corpus = made_corpus()
    features = TrunkFeatures.build(corpus, encoder, tmp_path)
    files = sorted(path.name for path in tmp_path.glob("features-*"))
    assert files == ["features-tiny-1.1.safetensors", "features-tiny-1.2.safetensors", "features-tiny-1.safetensors"]
    middle = tmp_path / files[0]
    middle.write_bytes(middle.read_bytes()[:50])
    again = TrunkFeatures.build(made_corpus(), encoder, tmp_path)
    assert set(again.audio) == set(features.audio)
    assert sorted(path.name for path in tmp_path.glob("features-*")) == files, "the damaged one is replaced"
    quiet = made_corpus()
    TrunkFeatures.build(quiet, encoder, tmp_path)
    assert quiet.read == []
