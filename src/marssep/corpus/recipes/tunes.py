"""Folk tunes for the instruments to play: a small ABC reader, and phrases made from the tunes by a seeded generator."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_SHARPS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6, "C#": 7}
_FLATS = {"F": 1, "Bb": 2, "Eb": 3, "Ab": 4, "Db": 5, "Gb": 6, "Cb": 7}
_MODE_SHIFT = {
    "": 0,
    "maj": 0,
    "ion": 0,
    "mix": -1,
    "dor": -2,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "phr": -4,
    "loc": -5,
    "lyd": 1,
}
_FIFTHS = ["F", "C", "G", "D", "A", "E", "B"]
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_TOKEN = re.compile(
    r"(?P<acc>\^\^|\^|__|_|=)?(?P<note>[A-Ga-gzx])(?P<octave>[',]*)(?P<num>\d*)(?P<slash>/*)(?P<den>\d*)|\|"
)

CHORDAL = {"piano", "harpsichord", "organ", "accordion", "acoustic_guitar", "electric_guitar", "harp", "choir"}
CHORDAL |= {"vibraphone", "marimba", "banjo", "mandolin"}
"""Instruments that often play several notes at once."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note: start and duration (beats in a tune, seconds in a phrase), MIDI pitch and velocity (1 to 127)."""

    start: float
    duration: float
    pitch: int
    velocity: int = 90


def read_abc(text: str) -> list[list[Note]]:
    """Melodies of an ABC file, one list of notes per tune; times are in quarter notes.

    Read are pitches, accidentals (to the end of the bar), the key's signature, lengths and rests: what single-voice
    collections use. Grace notes, chords' inner notes and tuplets' timing are not.
    """
    tunes: list[list[Note]] = []
    unit, signature = 0.5, dict.fromkeys(_STEPS, 0)
    notes: list[Note] = []
    in_body, clock = False, 0.0
    for line in [*text.splitlines(), "X:end"]:
        if line.startswith("X:"):
            if notes:
                tunes.append(notes)
            in_body, clock, notes = False, 0.0, []
        elif line.startswith("L:"):
            numerator, _, denominator = line[2:].strip().partition("/")
            unit = 4.0 * float(numerator) / float(denominator or 1)
        elif line.startswith("K:"):
            signature, in_body = _signature(line[2:].strip()), True
        elif in_body and not re.match(r"[A-Za-z]:|%", line):
            clock = _read_line(line, notes, clock, unit, signature)
    return tunes


def load_tunes(folder: Path, *, shortest: int = 12) -> dict[str, list[list[Note]]]:
    """Tunes of every `.abc` file with at least `shortest` notes, by file name."""
    tunes = {}
    for path in sorted(folder.glob("*.abc")):
        melodies = [tune for tune in read_abc(path.read_text(encoding="latin-1")) if len(tune) >= shortest]
        if melodies:
            tunes[path.stem] = melodies
    return tunes


def make_phrase(
    tune: Sequence[Note], rng: np.random.Generator, *, pitch_range: tuple[int, int], seconds: float, chordal: bool
) -> list[Note]:
    """A phrase from a random place of a tune, moved into the instrument's range, with a human's unevenness.

    Args:
        tune: notes in quarter notes.
        rng: makes every choice.
        pitch_range: lowest and highest MIDI pitch of the instrument.
        seconds: length; no note sounds longer.
        chordal: whether lower notes may be added below the melody.
    """
    low, high = pitch_range
    first = int(rng.integers(max(1, len(tune) - 10)))
    part = tune[first:]
    beat = 60.0 / float(rng.uniform(70, 160))
    centre = float(np.mean([note.pitch for note in part[:24]]))
    shift = round(float(rng.uniform(low + (high - low) * 0.25, low + (high - low) * 0.75)) - centre)
    loudness, spread = float(rng.uniform(55, 105)), float(rng.uniform(4, 14))
    held = float(rng.uniform(0.6, 1.0))
    chords = chordal and rng.random() < 0.5
    scale = sorted({(note.pitch + shift) % 12 for note in part})
    phrase = []
    for number, note in enumerate(part):
        start = (note.start - part[0].start) * beat + max(0.0, float(rng.normal(0.0, 0.008)))
        if start > seconds - 0.3:
            break
        pitch = _into(note.pitch + shift, low, high)
        duration = min(max(0.08, note.duration * beat * held), seconds - start)
        velocity = int(np.clip(rng.normal(loudness + 6 * (number % 4 == 0), spread), 25, 122))
        phrase.append(Note(start, duration, pitch, velocity))
        if chords and note.duration >= 1.0:
            below = [p for p in range(pitch - 3, pitch - 17, -1) if p % 12 in scale and p >= low]
            phrase += [
                Note(start, duration, p, max(25, velocity - 12)) for p in below[0:7:3][: int(rng.integers(1, 4))]
            ]
    return phrase


def make_drum_phrase(rng: np.random.Generator, *, seconds: float) -> list[Note]:
    """A drum pattern on the General MIDI percussion keys: kick, snare, hi-hat or ride, and now and then a fill."""
    kicks = ["x...x...", "x..x..x.", "x.x.x...", "x.....x.", "x.x...x."]
    snares = ["..x...x.", "....x...", "..x..xx.", "..x...xx"]
    kick, snare = str(rng.choice(kicks)), str(rng.choice(snares))
    kick_key, snare_key = int(rng.choice([35, 36])), int(rng.choice([38, 38, 40, 37]))
    hat = int(rng.choice([42, 42, 42, 44, 51, 46]))
    step = 30.0 / float(rng.uniform(75, 160))
    swing = float(rng.choice([0.0, 0.0, 0.12])) * step
    loud = float(rng.uniform(70, 110))
    phrase = []

    def hit(start: float, key: int, level: float) -> None:
        velocity = int(np.clip(rng.normal(loud * level, 6), 25, 122))
        phrase.append(Note(max(0.0, start + float(rng.normal(0, 0.004))), 0.1, key, velocity))

    for index in range(int((seconds - 0.2) / step)):
        start = index * step + (swing if index % 2 else 0.0)
        fill = index % 16 >= 13 and rng.random() < 0.5
        if kick[index % 8] == "x":
            hit(start, kick_key, 1.0)
        if snare[index % 8] == "x":
            hit(start, snare_key, 1.0)
        if fill:
            hit(start, int(rng.choice([41, 43, 45, 47, 48])), 0.95)
        elif rng.random() < 0.9:
            hit(start, hat, 0.75)
        if index % 16 == 0 and rng.random() < 0.3:
            hit(start, 49, 1.0)
    return phrase


def _read_line(line: str, notes: list[Note], clock: float, unit: float, signature: dict[str, int]) -> float:
    line = re.sub(r"\{[^}]*\}|\"[^\"]*\"|![^!]*!|\[[A-Za-z]:[^]]*\]|%.*", "", line)
    in_bar: dict[str, int] = {}
    for match in _TOKEN.finditer(line):
        if match[0] == "|":
            in_bar = {}
            continue
        length = unit * int(match["num"] or 1)
        if match["slash"]:
            length /= int(match["den"]) if match["den"] else 2 ** len(match["slash"])
        letter = match["note"].upper()
        if letter not in "ZX":
            if match["acc"]:
                in_bar[letter] = _ACCIDENTALS[match["acc"]]
            octave = 5 + match["note"].islower() + match["octave"].count("'") - match["octave"].count(",")
            pitch = 12 * octave + _STEPS[letter] + in_bar.get(letter, signature[letter])
            notes.append(Note(clock, length, pitch))
        clock += length
    return clock


def _signature(key: str) -> dict[str, int]:
    signature = dict.fromkeys(_STEPS, 0)
    match = re.match(r"([A-G][#b]?)\s*([A-Za-z]*)", key)
    if match:
        tonic, mode = match[1], match[2].lower()[:3]
        fifths = _SHARPS[tonic] if tonic in _SHARPS else -_FLATS.get(tonic, 0)
        fifths += _MODE_SHIFT.get(mode if mode in _MODE_SHIFT else mode[:1], 0)
        for letter in _FIFTHS[: max(0, fifths)]:
            signature[letter] = 1
        for letter in _FIFTHS[::-1][: max(0, -fifths)]:
            signature[letter] = -1
    return signature


def _into(pitch: int, low: int, high: int) -> int:
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return max(pitch, low)
