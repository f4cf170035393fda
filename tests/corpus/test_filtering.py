import json

import numpy as np
import pytest

from marssep.audio import encode_audio, resample
from marssep.corpus.filtering import FilterSettings, Verdicts, filter_corpus, flat_tops, judge
from marssep.corpus.fingerprints import duplicates, fingerprint
from marssep.corpus.manifest import Item, read_manifest, write_manifest
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, OutputError

RATE = 32000


def events(seed, seconds=3.0):
    """Tones and noises that come and go, as recordings do."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = np.zeros(len(time))
    for _ in range(20):
        begin, pitch = rng.uniform(0, seconds), rng.uniform(200, 4000)
        wave += np.exp(-8 * np.maximum(time - begin, 0)) * (time > begin) * np.sin(2 * np.pi * pitch * time)
    wave += 0.02 * rng.standard_normal(len(time))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def corpus_of(folder, sounds):
    items = []
    for id, (wave, label, split) in sounds.items():
        data = encode_audio(wave, sample_rate=RATE, format="FLAC")
        (folder / f"{id}.flac").write_bytes(data)
        shared = {"group": "sound", "recording": id, "source": "made", "licence": "CC0-1.0", "sha256": f"{id:0>64}"}
        items.append(
            Item(id=id, kind="audio", path=f"{id}.flac", label=label, captions=(label,), split=split, **shared)
        )
    write_manifest(folder / "manifest.jsonl", items)
    return Corpus.open(folder)


@pytest.fixture
def corpus(tmp_path):
    first = events(1)
    again = resample(resample(0.4 * first[RATE // 2 :], from_rate=RATE, to_rate=11025), from_rate=11025, to_rate=RATE)
    short = np.zeros(RATE, np.float32)
    short[:3000] = events(9)[:3000]
    (tmp_path / "in").mkdir()
    sounds = {
        "good": (first, "dog", "train"),
        "again": (again, "dog", "test"),
        "other": (events(2), "dog", "train"),
        "silent": (np.full(RATE, 1e-4, np.float32), "rain", "train"),
        "short": (short, "rain", "train"),
        "clipped": (np.clip(4 * events(3), -0.5, 0.5), "rain", "train"),
        "clean": (events(4), "rain", "train"),
    }
    return corpus_of(tmp_path / "in", sounds)


def test_every_fault_is_found_and_nothing_else(corpus):
    verdicts = judge(corpus, FilterSettings())
    kinds = {id: [reason.split(":")[0] for reason in reasons] for id, reasons in verdicts.reasons.items()}
    assert kinds == {"good": ["twice"], "silent": ["silent"], "short": ["short"], "clipped": ["clipped"]}
    assert verdicts.reasons["good"] == ("twice: is again too",), "the one for tests stays"
    assert verdicts.summary()["reasons"] == {"clipped": 1, "short": 1, "silent": 1, "twice": 1}


def test_checks_can_be_left_out(corpus):
    settings = FilterSettings(shortest=0, quietest_db=-200, clipped=0, twice=False)
    assert judge(corpus, settings).reasons == {}


def test_fingerprints_survive_codecs_levels_and_shifts_and_tell_others_apart():
    known = {str(seed): events(seed, seconds=4.0) for seed in range(12)}
    prints = {name: fingerprint(wave, RATE) for name, wave in known.items()}
    assert duplicates(prints) == []
    for name, wave in known.items():
        noisy = 0.1 * wave[5000:] + 1e-4 * np.random.default_rng(0).standard_normal(len(wave) - 5000)
        found = duplicates(prints | {"z": fingerprint(noisy.astype(np.float32), RATE)})
        assert found == [(name, "z")]
    assert duplicates({}) == []
    assert len(fingerprint(np.zeros(100, np.float32), RATE)) == 0


def test_flat_tops():
    tone = np.sin(np.arange(32000) / 10).astype(np.float32)
    assert flat_tops(tone) < 0.03
    assert flat_tops(np.clip(3 * tone, -1, 1)) > 0.5
    assert flat_tops(events(0)) < 0.001
    assert flat_tops(np.zeros(2, np.float32)) == 0


class Hearing:
    """An encoder that hears rain in everything that is called `other`."""

    def text(self, caption):
        return np.array([1.0, 0.0] if caption == "dog" else [0.0, 1.0])

    def audio(self, item_id):
        return np.array([[1.0, 0.0] if item_id in ("good", "again") else [0.0, 1.0]])


def test_labels_are_compared_with_what_is_heard(corpus):
    verdicts = judge(corpus, FilterSettings(rank=1, twice=False), places=Hearing())
    assert verdicts.reasons["other"] == ("unlike: 'dog' is number 2 of what it sounds like; first 'water'",)
    assert "clean" not in verdicts.reasons
    assert "other" not in judge(corpus, FilterSettings(rank=2, twice=False), places=Hearing()).reasons
    with pytest.raises(CorpusError, match="needs an encoder"):
        judge(corpus, FilterSettings(rank=1))


def test_the_command_copies_what_passes_and_reports_the_rest(corpus, tmp_path, marssep):
    ran = marssep("data", "filter", tmp_path / "in", "-o", tmp_path / "out", "--report", tmp_path / "report.json")
    assert ran.code == 0, ran.err
    assert "4 of 7 recordings do not pass (clipped 1, short 1, silent 1, twice 1)" in ran.out
    assert sorted(item.id for item in read_manifest(tmp_path / "out" / "manifest.jsonl")) == ["again", "clean", "other"]
    report = json.loads((tmp_path / "out" / "filter-report.json").read_text())
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["thrown_out"] == 4
    assert report["settings"]["clipped"] == 0.005
    heard = marssep("data", "filter", tmp_path / "in", "--encoder", "tiny", "--rank", "1")
    assert heard.code == 0
    wrong = marssep("data", "filter", tmp_path / "in", "--set", "cliped=1")
    assert wrong.code == 2
    assert "did you mean 'clipped'" in wrong.err


def test_nothing_left_and_taken_folders(corpus, tmp_path):
    nothing = Verdicts(7, {item.id: ("silent: x",) for item in corpus.items})
    with pytest.raises(CorpusError, match="no recording passes"):
        filter_corpus(corpus, nothing, tmp_path / "out", settings=FilterSettings())
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="not empty"):
        filter_corpus(corpus, nothing, tmp_path / "in", settings=FilterSettings())
