import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError


def spectrum_peak(waveform):
    return np.argmax(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))) * CORPUS_RATE / len(waveform)


def test_items_are_chosen_by_any_field(mini):
    corpus = Corpus.open(mini)
    assert {item.label for item in corpus.select(kind="audio", split="train")} == {"dog", "rain"}
    assert [item.recording for item in corpus.select(kind="audio", label="rain")] == ["c", "d"]
    assert [item.label for item in corpus.select(group="instrument", kind="image")] == ["violin"]
    assert len(corpus.select()) == len(corpus.items) == len(corpus.by_id)


def test_sounds_come_at_the_corpus_rate_and_from_the_cache_the_second_time(mini, monkeypatch):
    first = Corpus.open(mini).audio("mini/dog/1")
    assert first.dtype == np.float32
    assert len(first) == CORPUS_RATE // 2
    assert spectrum_peak(first) == pytest.approx(250, abs=1)
    monkeypatch.setattr("marssep.corpus.store.decode_audio", None)  # would fail if it were called
    np.testing.assert_array_equal(Corpus.open(mini).audio("mini/dog/1"), first)


def test_a_part_of_a_sound(mini):
    corpus = Corpus.open(mini)
    whole = corpus.audio("mini/rain/2")
    np.testing.assert_array_equal(corpus.audio("mini/rain/2", start=100, length=50), whole[100:150])


def test_a_changed_manifest_builds_the_cache_again(mini):
    corpus = Corpus.open(mini)
    corpus.decode_all()
    before = {path.name for path in mini.glob("decoded-*.npy")}
    manifest = mini / "manifest.jsonl"
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if "mini/dog/0" not in line))
    assert len(Corpus.open(mini).audio("mini/dog/1")) == CORPUS_RATE // 2
    after = {path.name for path in mini.glob("decoded-*.npy")}
    assert len(before) == len(after) == 1
    assert before != after
    assert not list(mini.glob("*.partial"))


def test_what_another_process_is_decoding_is_left_alone(mini):
    busy, abandoned = (mini / f"decoded-0123456789abcdef.npy.{pid}.partial" for pid in (1, 2))
    for path in (busy, abandoned):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    Corpus.open(mini).decode_all()
    assert busy.is_file()
    assert not abandoned.exists()


def test_processes_that_decode_a_corpus_at_once_all_get_it(mini):
    program = (
        "import sys; from marssep.corpus.store import Corpus; print(len(Corpus.open(sys.argv[1]).audio('mini/dog/0')))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(mini)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        assert int(out) == CORPUS_RATE // 2


def test_a_folder_that_cannot_be_written_uses_the_cache_folder(mini, tmp_path, monkeypatch):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("marssep.corpus.store.os.access", lambda *_: False)
    assert len(Corpus.open(mini).audio("mini/dog/0")) == CORPUS_RATE // 2
    assert not list(mini.glob("decoded-*"))
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) == 1


def test_pictures_are_rgb(mini):
    picture = Corpus.open(mini).image("mini/pictures/dog")
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (8, 8), (255, 0, 0))


def test_several_folders_are_one_corpus(mini, tmp_path, corpus_maker):
    corpus_maker(tmp_path / "other", [("cat", "train", "x")], name="other")
    corpus = Corpus.open([mini, tmp_path / "other"])
    assert len(corpus.audio("other/cat/0")) == len(corpus.audio("mini/dog/0"))
    with pytest.raises(CorpusError, match="occurs twice"):
        Corpus.open([mini, mini])


def test_a_corpus_travels_to_worker_processes_without_its_samples(mini):
    corpus = Corpus.open(mini)
    waveform = corpus.audio("mini/dog/0")
    data = pickle.dumps(corpus)
    assert len(data) < 20_000
    np.testing.assert_array_equal(pickle.loads(data).audio("mini/dog/0"), waveform)


def test_unknown_ids_and_missing_files_are_named(mini):
    corpus = Corpus.open(mini)
    with pytest.raises(CorpusError, match="no audio item 'mini/cat/0'"):
        corpus.audio("mini/cat/0")
    with pytest.raises(CorpusError, match="no image item 'mini/dog/0'"):
        corpus.image("mini/dog/0")
    (mini / corpus.by_id["mini/pictures/dog"].path).unlink()
    with pytest.raises(CorpusError, match=r"mini/pictures/dog, but missing"):
        corpus.image("mini/pictures/dog")
