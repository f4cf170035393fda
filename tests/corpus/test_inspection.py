import pytest

from marssep.corpus.inspection import amounts, find_faults
from marssep.corpus.merge import merge
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, OutputError


def test_amounts_are_counted_within_splits(mini):
    table = amounts(Corpus.open(mini).items, "group")
    train = table["train"]["sound"]
    assert (train.sounds, train.pictures) == (3, 2)
    assert train.minutes == pytest.approx(1.5 / 60)
    assert table["test"]["instrument"].sounds == 1


def test_a_whole_corpus_has_no_faults(mini, marssep):
    assert find_faults(mini) == []
    assert marssep("data", "check", mini).code == 0


def test_missing_and_altered_files_are_found(mini, marssep):
    items = Corpus.open(mini).by_id
    (mini / items["mini/dog/0"].path).unlink()
    (mini / items["mini/dog/1"].path).write_bytes(b"other")
    faults = find_faults(mini)
    assert len(faults) == 2
    ran = marssep("data", "check", mini)
    assert ran.code == 1
    assert "2 faults" in ran.out


def test_a_recording_in_two_splits_is_found_and_not_merged(tmp_path, corpus_maker):
    corpus_maker(tmp_path / "one", [("dog", "train", "same")], name="one")
    corpus_maker(tmp_path / "two", [("dog", "val", "same")], name="two")
    with pytest.raises(CorpusError, match="is in splits train, val"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    corpus_maker(tmp_path / "bad", [("dog", "train", "same"), ("dog", "val", "same")])
    assert "belongs to one split" in find_faults(tmp_path / "bad")[0]


def test_merging_into_an_input_is_refused(mini):
    with pytest.raises(OutputError, match="also an input"):
        merge([mini], mini)


def test_commands(mini, tmp_path, marssep):
    ran = marssep("data", "info", mini, "--by", "label")
    assert ran.code == 0
    assert "dog" in ran.out
    ran = marssep("data", "pack", mini, tmp_path / "packed", "--split", "all")
    assert ran.code == 0, ran.err
    assert "MB" in ran.out
    ran = marssep("data", "pack", mini, tmp_path / "small", "--split", "all", "--shard-megabytes", "0.001")
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "small").glob("*.tar"))) > len(list((tmp_path / "packed").glob("*.tar")))
    ran = marssep("data", "merge", tmp_path / "packed", "--output", tmp_path / "merged")
    assert ran.code == 0, ran.err
    assert marssep("data", "check", tmp_path / "merged").code == 0
    assert marssep("data", "build", "esc", "--output", tmp_path / "esc").code == 1
