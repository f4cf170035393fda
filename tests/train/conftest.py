"""Made sounds and their embeddings, for the programs that train on them."""

import pytest

from marssep.corpus.made import make_corpus
from marssep.corpus.store import Corpus
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("made")
    make_corpus(folder)
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def bank(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingBank:
    return EmbeddingBank.build(corpus, load_encoder("tiny"), tmp_path_factory.mktemp("bank"))
