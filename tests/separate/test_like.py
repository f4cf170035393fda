"""A sound by where it can be heard in the recording itself."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep import Audio, Query, Separator, write_audio
from marssep.errors import InputError, UsageError
from marssep.separate.excerpts import read_excerpts
from marssep.separate.sources import ArraySource

RATE = 16000


class _Pieces(ArraySource):
    """An array in pieces that remembers how much was read."""

    size = 1000
    read = 0

    def pieces(self):
        for piece in self.waveform.split(self.size, dim=-1):
            type(self).read += piece.shape[-1]
            yield piece


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


@pytest.fixture
def recording():
    """Three seconds of stereo noise, the last one silent."""
    waveform = (0.1 * np.random.default_rng(0).standard_normal((2, 3 * RATE))).astype(np.float32)
    waveform[:, 2 * RATE :] = 0
    return waveform


@given(
    size=st.integers(1, 5000),
    regions=st.lists(st.tuples(st.integers(0, 180), st.integers(10, 120)), min_size=1, max_size=4),
)
def test_excerpts_are_the_samples_whatever_the_pieces(size, regions):
    waveform = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 30000)).astype(np.float32))
    _Pieces.size, _Pieces.read = size, 0
    source = _Pieces(waveform, 10000)
    spans = [(begin / 100, (begin + length) / 100) for begin, length in regions]
    for (begin, end), made in zip(spans, read_excerpts(source, spans), strict=True):
        torch.testing.assert_close(made, waveform[:, round(begin * 10000) : round(end * 10000)].mean(0))
    last = max(round(end * 10000) for _, end in spans)
    assert last <= _Pieces.read < last + size  # what comes after the last region is not read


def test_a_region_is_the_example_cut_out_of_the_recording(separator, recording):
    like = separator.separate((recording, RATE), like=(0.5, 1.25))
    cut = recording[:, RATE // 2 : RATE * 5 // 4]
    for example in ((cut, RATE), Audio(cut, RATE)):
        audio = separator.separate((recording, RATE), audio=example)
        np.testing.assert_allclose(like.target, audio.target, atol=1e-6)
    assert like.presence == pytest.approx(audio.presence, abs=1e-6)
    assert like.provenance.query["like"] == [[0.5, 1.25]]
    assert like.default_name == "waveform.like-0-00-5-0-01-25"


def test_several_regions_and_other_kinds_are_one_query(separator, recording):
    one = separator.separate((recording, RATE), like=(0.0, 0.5)).grid_mask
    two = separator.separate((recording, RATE), like=[(0.0, 0.5), (1.0, 1.5)]).grid_mask
    words = separator.separate((recording, RATE), text="dog", like=(0.0, 0.5)).grid_mask
    only = separator.separate((recording, RATE), text="dog", like=(0.0, 0.5), weights={"audio": 0}).grid_mask
    assert np.abs(one - two).max() > 1e-4
    assert np.abs(one - words).max() > 1e-4
    np.testing.assert_allclose(only, separator.separate((recording, RATE), text="dog").grid_mask, atol=1e-6)


def test_files_and_memory_agree_and_the_sidecar_says_where(separator, recording, tmp_path):
    write_audio(tmp_path / "in.wav", recording, sample_rate=RATE, subtype="FLOAT")
    queries = [Query(like=(0.5, 1.25)), Query(text="dog", like=(1.0, 1.5), weights={"text": 3.0})]
    results = separator.separate_file(tmp_path / "in.wav", queries, tmp_path / "out")
    for query, result, memory in zip(
        queries, results, separator.separate_queries((recording, RATE), queries), strict=True
    ):
        assert result.row["presence"] == pytest.approx(memory.presence, abs=1e-5)
        written = json.loads(result.files.sidecar.read_text())["query"]
        assert written["like"] == [list(query.regions[0])]
        assert written["weights"] == query.weights


def test_a_resumed_run_knows_another_region(separator, recording, tmp_path):
    from marssep.separate import FileSettings
    from marssep.separate.naming import Naming

    write_audio(tmp_path / "in.wav", recording, sample_rate=RATE)
    paths = Naming(tmp_path / "out").paths("in.wav", [Query(text="dog")])
    skipped = []
    for like in ((0.5, 1.0), (0.5, 1.0), (0.5, 1.1)):
        settings = FileSettings(resume=True)
        (result,) = separator.separate_file(tmp_path / "in.wav", [Query(like=like)], paths, settings=settings)
        skipped.append(result.skipped)
    assert skipped == [False, True, False]


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ((2.5, 3.5), r"0:02.5-0:03.5 ends after the recording, which lasts 3.00 s"),
        ((60.0, 61.0), "1:00-1:01 ends after the recording"),
        ((2.2, 2.9), "0:02.2-0:02.9 is silent"),
    ],
)
def test_regions_that_the_recording_does_not_have(separator, recording, tmp_path, like, words):
    with pytest.raises(InputError, match=words):
        separator.separate((recording, RATE), like=like)
    write_audio(tmp_path / "in.wav", recording, sample_rate=RATE)
    with pytest.raises(InputError, match=rf"in.wav: the region {words}"):
        separator.separate_file(tmp_path / "in.wav", [Query(like=like)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_region_needs_its_recording(separator):
    with pytest.raises(UsageError, match="only be answered together with the recording"):
        separator.embed(Query(like=(0, 1)))
