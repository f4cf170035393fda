"""Several models in one encoder, from the corpus to a trained separator's batches."""

import numpy as np
import pytest

from marssep.corpus.made import make_corpus
from marssep.corpus.store import Corpus
from marssep.errors import UsageError
from marssep.query import EmbeddingBank, load_encoder, new_encoder
from marssep.train.align_run import run_alignment
from marssep.train.batches import TrainingBatches
from marssep.train.settings import SupervisedSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    make_corpus(place, per_split=2)
    return place


def test_heads_that_join_two_models_are_trained_saved_and_used(folder, made_models, tmp_path):
    name = made_models.specifications["clap+clip"]
    settings = {"steps": 60, "batch_size": 32, "learning_rate": 5e-3}
    run = run_alignment([folder], tmp_path, encoder_name=name, settings=settings, cache=tmp_path / "cache")
    encoder = load_encoder(f"{name},heads={run.heads}")
    corpus = Corpus.open(folder)
    bank = EmbeddingBank.build(corpus, encoder, tmp_path / "cache")
    items = corpus.select(kind="audio", split="train")
    words = np.stack([bank.text(item.captions[0]) for item in items]).astype(np.float32)
    sounds = np.stack([bank.audio(item.id)[0] for item in items]).astype(np.float32)
    nearest = (sounds @ words.T).argmax(1)
    right = np.mean([items[row].label == items[place].label for row, place in enumerate(nearest)])
    assert right > 0.7, "a quarter is chance"


def test_a_model_of_one_space_has_nothing_to_train(folder, made_models, tmp_path):
    with pytest.raises(UsageError, match=r"no heads for all of text, audio and image"):
        run_alignment([folder], tmp_path, encoder_name=made_models.specifications["clap"])


def test_training_asks_only_by_what_the_encoder_takes(folder, made_models, tmp_path):
    corpus = Corpus.open(folder)
    for kind, lacking in (("clap", "image"), ("clip", "audio")):
        bank = EmbeddingBank.build(corpus, load_encoder(made_models.specifications[kind]), tmp_path)
        settings = SupervisedSettings.model_validate(
            {"batch_size": 4, "model": {"chunk_steps": 32, "query_dimension": 12}, "sample_rate": 16000}
        )
        assert lacking not in bank.modalities
        batch = TrainingBatches(corpus, bank, settings)[0]
        assert batch.query.isfinite().all()


def test_big_encoders_run_once_on_a_clip(folder, made_models, tmp_path, monkeypatch):
    first = new_encoder(made_models.specifications["clap+clip"])
    EmbeddingBank.build(Corpus.open(folder), first, tmp_path)
    again = new_encoder(made_models.specifications["clap+clip"])

    def never(*arguments):
        raise AssertionError("computed again")

    for name in ("text_features", "audio_features", "image_features"):
        monkeypatch.setattr(again, name, never)
    again.fingerprint = "other heads"
    EmbeddingBank.build(Corpus.open(folder), again, tmp_path)
    assert len(list(tmp_path.glob("features-transformers-*"))) == 1
