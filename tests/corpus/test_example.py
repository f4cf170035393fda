"""The included example can be made again from a corpus."""

import json

import numpy as np
import pytest

from marssep import read_audio
from marssep.corpus.example import AUTHORS, CREDITS, MIXTURE, SPEC, TARGET, build_example
from marssep.corpus.lists import read_list, write_list
from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import MixtureSpec, QuerySpec, SourceSpec
from marssep.corpus.store import Corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_corpus(folder)
    return Corpus.open(folder)


SOURCES = (
    SourceSpec("made/test/tone-0", "tone", 0.0, 0.0, 0.1, 0.0),
    SourceSpec("made/test/noise-0", "noise", 0.0, 0.0, 0.1, -6.0),
)
QUERIES = (QuerySpec("tone", "a tone", None, None), QuerySpec("noise", "noise", None, None))
MIXED = MixtureSpec("one", 2.0, SOURCES, QUERIES)


def test_writes_mixture_target_list_and_credits(corpus, tmp_path):
    (tmp_path / AUTHORS).write_text(json.dumps({"made/test/noise-0": "A. Author"}))
    build_example(MIXED, corpus, tmp_path)
    mixture, target = read_audio(tmp_path / MIXTURE), read_audio(tmp_path / TARGET)
    assert mixture.waveform.shape == target.waveform.shape == (1, 64000)
    assert 0.69 < np.abs(mixture.waveform).max() < 0.71
    assert read_list(tmp_path / SPEC) == [MIXED]
    credits = (tmp_path / CREDITS).read_text()
    assert corpus.by_id["made/test/tone-0"].licence in credits
    assert "A. Author" in credits


def test_the_command_renders_a_mixture_of_a_list(marssep, corpus, tmp_path):
    write_list(tmp_path / "mine.jsonl", [MIXED])
    arguments = ("data", "example", "--corpus", corpus.folders[0], "--mixtures", tmp_path / "mine.jsonl")
    assert marssep(*arguments, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / TARGET).is_file()
    ran = marssep(*arguments, "--id", "two", "-o", tmp_path / "out")
    assert ran.code == 2
    assert "no such mixture; its first is 'one'" in ran.err
