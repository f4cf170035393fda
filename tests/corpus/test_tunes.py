import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.corpus.recipes.rendering import DRUMS, Preset, encode_midi
from marssep.corpus.recipes.tunes import Note, make_drum_phrase, make_phrase, read_abc

ABC = """X:1
T: A tune
M: 4/4
L: 1/8
K: D
F2 ^G c' | F=F _B,/2 z2 A,,3/2 | G

X:2
L: 1/16
K: Gm
B4 e2"""


def test_abc_pitches_follow_key_accidentals_and_octaves():
    first, second = read_abc(ABC)
    # in D major F and C are sharp; an accidental holds to the bar line
    assert [note.pitch for note in first] == [66, 68, 85, 66, 65, 58, 45, 67]
    assert [note.pitch for note in second] == [70, 75]  # G minor: B and E are flat


def test_abc_lengths_are_quarter_notes():
    first, second = read_abc(ABC)
    assert [note.duration for note in first] == [1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.75, 0.5]
    assert [note.start for note in first] == [0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.25, 5.0]
    assert [note.start for note in second] == [0.0, 1.0]


def test_abc_agrees_with_music21():
    music21 = pytest.importorskip("music21")
    ours = read_abc(ABC)[0]
    score = music21.converter.parseData(ABC.split("\n\n", maxsplit=1)[0], format="abc")
    theirs = [(note.pitch.midi, float(note.quarterLength)) for note in score.flatten().notes]
    assert [(note.pitch, note.duration) for note in ours] == theirs


@given(seed=st.integers(0, 1000), low=st.integers(24, 70), width=st.integers(12, 40), chordal=st.booleans())
def test_phrases_stay_in_the_instruments_range_and_in_time(seed, low, width, chordal):
    tune = [Note(0.5 * step, 0.5 + step % 2, 50 + 7 * step % 23) for step in range(40)]
    rng = np.random.default_rng(seed)
    phrase = make_phrase(tune, rng, pitch_range=(low, low + width), seconds=4.0, chordal=chordal)
    assert phrase
    assert all(low <= note.pitch <= low + width for note in phrase)
    assert all(0 <= note.start < 4.0 and note.start + note.duration <= 4.0 + 0.1 for note in phrase)
    assert all(1 <= note.velocity <= 127 for note in phrase)


def test_drum_patterns_hit_percussion_keys():
    phrase = make_drum_phrase(np.random.default_rng(0), seconds=4.0)
    assert len(phrase) > 10
    assert {note.pitch for note in phrase} <= set(range(35, 60))
    assert max(note.start for note in phrase) < 4.0


def test_midi_has_every_note_once():
    data = encode_midi([Note(0.0, 1.0, 60, 80), Note(0.5, 0.25, 64, 90)], Preset(40))
    assert data.startswith(b"MThd")
    assert data.count(b"\xc0\x28") == 1
    assert [data.count(bytes([0x90, pitch, velocity])) for pitch, velocity in ((60, 80), (64, 90))] == [1, 1]
    assert [data.count(bytes([0x80, pitch, 0])) for pitch in (60, 64)] == [1, 1]
    drums = encode_midi([Note(0.0, 0.1, 36, 80)], Preset(25, DRUMS))
    assert b"\x99" in drums  # drums are channel 10
    assert b"\xc9\x19" in drums  # and the kit is its program
    assert b"\xb0\x00\x08\x00\xc0\x19" in encode_midi([Note(0.0, 0.1, 36, 80)], Preset(25, 8))  # bank, then program


def test_midi_agrees_with_mido(tmp_path):
    mido = pytest.importorskip("mido")
    (tmp_path / "x.mid").write_bytes(encode_midi([Note(0.0, 1.0, 60, 80), Note(1.5, 0.25, 64, 90)], Preset(40)))
    clock, starts = 0.0, []
    for message in mido.MidiFile(tmp_path / "x.mid"):
        clock += message.time
        if message.type == "note_on":
            starts.append((round(clock, 3), message.note, message.velocity))
    assert starts == [(0.0, 60, 80), (1.5, 64, 90)]
