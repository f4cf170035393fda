"""Windows of shards: every shard has its turn, nobody reads another's, little is in memory, and sounds are the same."""

import hashlib
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.audio import encode_audio
from marssep.corpus.manifest import Item, write_manifest
from marssep.corpus.mixing import MixingSettings, MixtureSampler, render
from marssep.corpus.pack import PackSettings, pack
from marssep.corpus.store import Corpus
from marssep.corpus.streaming import ShardPlan, SourceWindows, StreamingSettings
from marssep.errors import CorpusError


def make_plain(folder):
    """Eight tones of each of four classes."""
    items = []
    (folder).mkdir()
    for number in range(32):
        label, time = ("dog", "flute", "rain", "piano")[number % 4], np.arange(8000) / 16000
        wave = (0.5 * np.sin(2 * np.pi * (200 + 50 * number) * time)).astype(np.float32)
        data = encode_audio(wave, sample_rate=16000, format="FLAC")
        (folder / f"{number}.flac").write_bytes(data)
        about = {"kind": "audio", "label": label, "captions": (label,), "group": "sound", "split": "train"}
        about |= {"path": f"{number}.flac", "sha256": hashlib.sha256(data).hexdigest(), "duration": 0.5}
        about |= {"source": "made", "licence": "CC0-1.0", "recording": f"recording {number}", "sample_rate": 16000}
        items.append(Item(id=f"tones/{number:02d}", **about))
    write_manifest(folder / "manifest.jsonl", items)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming")
    make_plain(folder / "plain")
    pack(Corpus.open(folder / "plain"), folder / "packed", PackSettings(shard_megabytes=0.016))
    return folder / "packed"


def plan(n_shards=12, batch_size=8, seed=0, **settings):
    return ShardPlan(n_shards, StreamingSettings(**({"shards": 2} | settings)), batch_size, seed)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 20), st.integers(0, 5))
def test_in_an_epoch_every_shard_is_on_one_track_once(lanes, turns, more, seed):
    dealt = plan(lanes * turns + more, lanes=lanes, turns=turns, shards=1, seed=seed)
    lengths = [len(range(track, dealt.n_shards, dealt.tracks)) for track in range(dealt.tracks)]
    for epoch in range(2):
        seen = [
            dealt.window(track, epoch * length + place)[0]
            for track, length in enumerate(lengths)
            for place in range(length)
        ]
        assert sorted(seen) == list(range(dealt.n_shards))


def test_a_window_moves_by_one_shard_and_orders_differ_by_epoch_and_seed():
    dealt = plan(40, shards=3, lanes=2)
    windows = [dealt.window(1, position) for position in range(17)]
    assert all(before[1:] == after[:-1] for before, after in itertools.pairwise(windows))
    orders = [[one.window(0, k)[0] for k in range(20)] for one in (dealt, plan(40, lanes=2, seed=1))]
    assert orders[0] != orders[1]
    assert orders[0] != [dealt.window(0, k)[0] for k in range(20, 40)]


@pytest.mark.parametrize(("processes", "accumulation", "workers"), [(1, 1, 2), (2, 1, 1), (2, 2, 2), (4, 1, 3)])
def test_no_two_processes_or_workers_share_a_track(processes, accumulation, workers):
    dealt = plan(lanes=4, turns=workers)
    parts = processes * accumulation
    size = dealt.batch_size // parts
    tracks = {}
    for step in range(24):
        for number in range(accumulation):
            for rank in range(processes):
                part = number * processes + rank
                worker = (step * accumulation + number) % workers  # a loader deals its passes out in turn
                for row in range(size):
                    track, _ = dealt.place((step * parts + part) * size + row)
                    tracks.setdefault((rank, worker), set()).add(track)
    everyone = [track for own in tracks.values() for track in own]
    assert len(everyone) == len(set(everyone)) == dealt.tracks


def test_sources_come_from_the_window_and_what_has_passed_is_let_go(packed):
    streamed, whole = Corpus.open(packed, streaming=True), Corpus.open(packed)
    settings = StreamingSettings(shards=3, steps=2, lanes=2)
    sampler = MixtureSampler(streamed, split="train", settings=MixingSettings(), duration=0.5, seed=3)
    windows = SourceWindows(sampler, streamed, settings, split="train", batch_size=4)
    shards = streamed.shards("train")
    assert len(shards) >= 7
    seen, audio_queries = set(), set()
    for index in range(4 * 2 * len(shards)):
        spec = windows.sampler(index).draw(index)
        of_sources = {name for name in shards for item in shards[name] for s in spec.sources if item.id == s.item}
        assert of_sources <= streamed.held
        assert len(streamed.held) <= settings.lanes * (settings.shards + 1)
        seen |= of_sources
        audio_queries |= {query.audio for query in spec.queries}
        if index % 16 == 0:
            np.testing.assert_array_equal(render(spec, streamed).mixture, render(spec, whole).mixture)
    assert seen == set(shards)
    assert len(audio_queries) > 24  # not of the window alone


def test_an_example_does_not_depend_on_what_was_drawn_before(packed):
    def drawn(indices):
        corpus = Corpus.open(packed, streaming=True)
        sampler = MixtureSampler(corpus, split="train", settings=MixingSettings(), duration=0.5)
        windows = SourceWindows(
            sampler, corpus, StreamingSettings(shards=3, steps=1, lanes=2), split="train", batch_size=4
        )
        return {index: windows.sampler(index).draw(index) for index in indices}

    one_after_another = drawn(range(24))
    assert drawn([22, 5]) == {22: one_after_another[22], 5: one_after_another[5]}


def test_a_streamed_corpus_decodes_what_is_not_held_and_survives_pickling(packed):
    streamed, whole = Corpus.open(packed, streaming=True), Corpus.open(packed)
    streamed.decode_all()
    assert not streamed.held
    id = whole.select(kind="audio")[3].id
    for start, length in ((0, None), (100, 50), (0, 10**6), (10**6, 5)):
        expected = whole.audio(id, start=start, length=length)
        np.testing.assert_array_equal(streamed.audio(id, start=start, length=length), expected)
    name = next(iter(streamed.shards("train")))
    streamed.hold("somebody", [name])
    again = pickle.loads(pickle.dumps(streamed))
    assert not again.held
    np.testing.assert_array_equal(again.audio(id), whole.audio(id))


def test_what_cannot_be_streamed_is_said(packed, tmp_path):
    make_plain(tmp_path / "plain")
    with pytest.raises(CorpusError, match="marssep data pack"):
        Corpus.open(tmp_path / "plain", streaming=True).shards("train")
    with pytest.raises(CorpusError, match="12 shards are too few for 7 lanes in 2 turns"):
        plan(12, lanes=7, turns=2)
    corpus = Corpus.open(packed, streaming=True)
    sampler = MixtureSampler(corpus, split="train", settings=MixingSettings(), duration=0.5)
    with pytest.raises(CorpusError, match="window of shards: needs sounds of at least two families"):
        sampler.within([item for item in corpus.select(kind="audio") if item.label == "dog"])
