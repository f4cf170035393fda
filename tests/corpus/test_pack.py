import io
import json
import tarfile

import numpy as np
import pytest

from marssep.corpus.inspection import find_faults
from marssep.corpus.merge import merge
from marssep.corpus.pack import PackSettings, pack
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, OutputError


def test_a_packed_corpus_reads_like_the_original(mini, tmp_path):
    corpus = Corpus.open(mini)
    packed = pack(corpus, tmp_path / "packed", PackSettings(splits=()))
    again = Corpus.open(tmp_path / "packed")
    assert {item.id for item in packed} == set(again.by_id) == set(corpus.by_id)
    for item in corpus.select(kind="audio"):
        ours, theirs = again.audio(item.id), corpus.audio(item.id)
        assert len(ours) == len(theirs)
        if item.split == "train":
            error = np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))
            assert error < 0.05  # Opus at its default keeps a tone
        else:
            np.testing.assert_array_equal(ours, theirs)
            assert again.by_id[item.id].sha256 == item.sha256
    assert again.image("mini/pictures/dog").getpixel((3, 3)) == (255, 0, 0)
    assert find_faults(tmp_path / "packed") == []


def test_shards_have_the_layout_of_webdataset_and_a_seeded_order(mini, tmp_path):
    for name in ("one", "two"):
        pack(Corpus.open(mini), tmp_path / name)
    shard = tmp_path / "one" / "train-000.tar"
    with tarfile.open(shard) as tar:
        names = tar.getnames()
        described = json.load(io.BytesIO(tar.extractfile("mini/dog/0.json").read()))
    assert {name.rsplit(".", 1)[1] for name in names} == {"ogg", "png", "json"}
    assert described == {"id": "mini/dog/0", "label": "dog", "text": "dog barking", "split": "train", "recording": "a"}
    with tarfile.open(tmp_path / "two" / "train-000.tar") as tar:
        assert tar.getnames() == names  # bytes differ: every Ogg stream has a random serial number


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_itself_reads_the_shards(mini, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(Corpus.open(mini), tmp_path / "packed")
    samples = list(webdataset.WebDataset(str(tmp_path / "packed" / "train-000.tar"), shardshuffle=False))
    assert len(samples) == len(Corpus.open(tmp_path / "packed").items)
    assert all("json" in sample and ("ogg" in sample or "png" in sample) for sample in samples)


def test_large_corpora_are_cut_into_shards(mini, tmp_path):
    pack(Corpus.open(mini), tmp_path / "packed", PackSettings(shard_megabytes=0.001))
    assert len(list((tmp_path / "packed").glob("train-*.tar"))) > 2
    assert find_faults(tmp_path / "packed") == []


def test_nothing_is_overwritten_and_unknown_splits_are_named(mini, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="not empty"):
        pack(Corpus.open(mini), tmp_path / "full")
    with pytest.raises(CorpusError, match="its splits are test, train, val"):
        pack(Corpus.open(mini), tmp_path / "packed", PackSettings(splits=("training",)))
    assert not (tmp_path / "packed").exists()


def test_a_damaged_shard_is_named(mini, tmp_path):
    pack(Corpus.open(mini), tmp_path / "packed")
    (tmp_path / "packed" / "train-000.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(CorpusError, match=r"train-000\.tar: not a readable tar shard"):
        Corpus.open(tmp_path / "packed").image("mini/pictures/dog")


def test_packed_and_plain_corpora_merge(mini, tmp_path, corpus_maker):
    pack(Corpus.open(mini), tmp_path / "packed")
    corpus_maker(tmp_path / "other", [("cat", "train", "x")], name="other")
    merged = merge([tmp_path / "packed", tmp_path / "other"], tmp_path / "merged")
    assert find_faults(tmp_path / "merged") == []
    assert {item.id.split("/")[0] for item in merged} == {"mini", "other"}
    assert len(Corpus.open(tmp_path / "merged").audio("mini/dog/0")) == 16000
