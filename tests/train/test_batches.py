"""Training batches: what is varied stays consistent between mixture and targets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from marssep.corpus.made import make_corpus
from marssep.corpus.manifest import write_manifest
from marssep.corpus.store import Corpus
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.train.batches import TrainingBatches
from marssep.train.supervised import train_supervised


def test_a_layered_source_is_one_target(tmp_path: Path) -> None:
    make_corpus(tmp_path / "made")
    corpus = Corpus.open(tmp_path / "made")
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), tmp_path / "bank")
    alone = ("mixing.n_sources=[1.0, 0.0, 0.0, 0.0]", "mixing.background=0.0", "queries.absent=0.0")
    batches = [
        TrainingBatches(corpus, bank, load_preset("smoke", (*alone, f"augmentation.layer={layer}")))[0]
        for layer in (0.0, 1.0)
    ]
    for batch in batches:
        targets = batch.targets
        whole = targets.power[:, None].expand_as(targets.target_power)[targets.present]
        torch.testing.assert_close(targets.target_power[targets.present], whole, atol=1e-5, rtol=1e-4)
        assert targets.present.any()
        assert not targets.target_power[~targets.present].any()
    plain, layered = (batch.targets.power.numpy() for batch in batches)
    assert np.mean(np.abs(plain - layered)) > 0.01 * np.mean(plain)


def test_a_corpus_without_pictures_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [item for item in make_corpus(tmp_path / "made") if item.kind == "audio"]
    corpus = Corpus.open(tmp_path / "made")
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), tmp_path / "bank")
    settings = load_preset("smoke", ("steps=1",))
    train_supervised(settings, corpus=corpus, bank=bank, output=tmp_path / "with", quiet=True)
    assert "picture" not in caplog.text
    write_manifest(tmp_path / "made" / "manifest.jsonl", items)
    corpus = Corpus.open(tmp_path / "made")
    train_supervised(settings, corpus=corpus, bank=bank, output=tmp_path / "without", quiet=True)
    assert "no query will be a picture" in caplog.text
