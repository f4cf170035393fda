"""Drum kits of samples: which hit a note gets, what is no drum kit, and what a damaged description says."""

import numpy as np
import pytest

from marssep.audio import write_audio
from marssep.corpus.recipes.kits import load_kits, play_kit
from marssep.corpus.recipes.tunes import Note
from marssep.corpus.store import CORPUS_RATE
from marssep.errors import CorpusError

LAYERED = "".join(
    f"<layer><filename>{name}.wav</filename><min>{low}</min><max>{high}</max><gain>1</gain></layer>"
    for name, low, high in (("soft", 0.0, 0.5), ("hard", 0.5, 1.0))
)


def instrument(name, inside):
    return f"<instrument><name>{name}</name><volume>0.5</volume>{inside}</instrument>"


def single(file):
    return f"<filename>{file}.wav</filename>"


@pytest.fixture
def folder(tmp_path):
    """One kit whose snare has two layers and whose every sample is a constant of its own."""
    kit = tmp_path / "Kit 1"
    kit.mkdir()
    levels = {"kick": 0.1, "soft": 0.2, "hard": 0.4, "hat": 0.3, "custom": 0.6, "tom": 0.7}
    for name, level in levels.items():
        write_audio(
            kit / f"{name}.wav", np.full((1, CORPUS_RATE // 10), level, dtype=np.float32), sample_rate=CORPUS_RATE
        )
    parts = [
        instrument("Kick (Custom 22)", single("kick")),
        instrument("Snare Jazz", LAYERED),
        instrument("Closed HH", single("hat")),
        instrument("Ride (Custom 20)", single("custom")),
        instrument("tomhi2", single("tom")),
        instrument("Crash", single("gone")),  # listed, but no such file
        instrument("Cowbell", single("kick")),
    ]
    xmlns = 'xmlns="http://www.hydrogen-music.org/drumkit"'
    (kit / "drumkit.xml").write_text(f"<drumkit_info {xmlns}>{''.join(parts)}</drumkit_info>")
    return tmp_path


def level_of(kit, key, velocity):
    return float(np.abs(play_kit(kit, [Note(0.05, 0.1, key, velocity)], seconds=0.3, take=0)).max())


def test_a_note_is_the_hit_that_was_struck_about_as_hard(folder):
    kit = load_kits(folder)["Kit 1"]
    assert level_of(kit, 38, 20) == pytest.approx(0.2 * 0.5 * 20 / 127, rel=1e-3)  # the kit's volume, the velocity
    assert level_of(kit, 38, 120) == pytest.approx(0.4 * 0.5 * 120 / 127, rel=1e-3)
    assert level_of(kit, 36, 64) == pytest.approx(0.1 * 0.5 * (64 / 127) ** 2, rel=1e-3)  # no layers: softer by itself


def test_names_say_what_it_is(folder):
    kit = load_kits(folder)["Kit 1"]
    assert set(kit) == {35, 36, 38, 40, 42, 51, 41, 43, 45, 47, 48}  # 'Custom' is no tom, the crash has no file
    assert level_of(kit, 51, 127) == pytest.approx(0.3, rel=1e-3)
    assert level_of(kit, 49, 127) == 0.0


def test_percussion_without_a_snare_is_no_drum_kit(folder):
    path = folder / "Kit 1/drumkit.xml"
    path.write_text(path.read_text().replace("Snare Jazz", "Maraca"))
    assert load_kits(folder) == {}


def test_hits_start_where_the_note_does_and_end_with_the_phrase(folder):
    kit = load_kits(folder)["Kit 1"]
    phrase = play_kit(kit, [Note(0.25, 0.1, 36, 127), Note(0.4, 0.1, 36, 127)], seconds=0.3, take=3)
    assert phrase.shape == (int(0.3 * CORPUS_RATE),)
    assert np.flatnonzero(phrase)[0] == int(0.25 * CORPUS_RATE)


def test_a_damaged_description_is_named(folder):
    (folder / "Kit 1/drumkit.xml").write_text("<drumkit_info><instrument>")
    with pytest.raises(CorpusError, match=r"drumkit\.xml: not readable as XML"):
        load_kits(folder)
