"""Recipe `notes`: collections of single notes, strung into solo phrases by a seeded generator."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from marssep.audio import read_audio, resample, to_mono
from marssep.corpus.manifest import Item
from marssep.corpus.recipes.building import CorpusBuilder, Origin, need_folder, trim_silence
from marssep.corpus.store import CORPUS_RATE
from marssep.errors import CorpusError
from marssep.settings import Settings

LABEL_OF_FOLDER = {
    "guitar": "acoustic_guitar",
    "percussion/bass_drum": "drum_kit",
    "percussion/clash_cymbals": "drum_kit",
    "percussion/snare_drum": "drum_kit",
    "percussion/suspended_cymbal": "drum_kit",
    "percussion/tom-toms": "drum_kit",
    "percussion/bell_tree": "bell",
    "percussion/sleigh_bells": "bell",
    "percussion/motor_horn": "horn",
    "percussion/train_whistle": "train",
}
"""Folders whose sound is one of our labels under another name; percussion that fits none is left out."""

PLUCKED = {"acoustic_guitar", "banjo", "mandolin", "harp", "piano"}
DYNAMICS = {"pianissimo": 0.3, "piano": 0.42, "mezzo-piano": 0.55, "mezzo-forte": 0.7, "forte": 0.85, "fortissimo": 1.0}

_NOTE = re.compile(r"(?P<pitch>[A-G]s?\d)_(?P<length>[a-z0-9-]+)_(?P<dynamic>[a-z-]+)_(?P<articulation>.+)")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

logger = logging.getLogger(__name__)


class NotesSettings(Settings):
    """How phrases are strung."""

    phrases: int = 24
    """Training phrases per instrument."""
    val_phrases: int = 5
    """Validation phrases per instrument, from pitches that no training phrase holds."""
    val_share: float = 0.15
    """Share of the pitches kept for validation."""
    seconds: float = 6.0
    """Length of a phrase."""
    seed: int = 1
    """Seed of everything random."""


@dataclass(frozen=True, slots=True)
class _Note:
    path: Path
    pitch: int  # MIDI; 0 for unpitched percussion
    gain: float


def build_notes(
    source: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    settings: NotesSettings | None = None,
) -> list[Item]:
    """Make a corpus of phrases from `INSTRUMENT/NOTE_LENGTH_DYNAMIC_ARTICULATION.mp3` (Philharmonia naming).

    A pitch belongs to one recording only: no recorded note is heard in training and in validation, and an example to
    ask by never holds the notes of the phrase that is asked for.

    Raises:
        CorpusError: if the folder holds no such files.
    """
    settings = settings or NotesSettings()
    folder = need_folder(source, recipe="notes", layout="INSTRUMENT/NOTE_LENGTH_DYNAMIC_ARTICULATION.mp3")
    instruments = _find_notes(folder)
    if not instruments:
        raise CorpusError(f"{folder}: no INSTRUMENT/NOTE_LENGTH_DYNAMIC_ARTICULATION files in it; check the naming.")
    builder = CorpusBuilder(output, name="notes")
    jobs = []
    for label, notes in sorted(instruments.items()):
        for split, sets in _split_by_pitch(notes, label, settings).items():
            count = settings.phrases if split == "train" else settings.val_phrases
            if len(notes) < 20:  # a handful of hits gives no more than a few different phrases
                count = min(count, len(notes))
            jobs += [(label, split, sets, index) for index in range(count)]

    def add(job: tuple[str, str, list[list[_Note]], int]) -> None:
        label, split, sets, index = job
        number = index % len(sets)
        notes = sets[number]
        rng = np.random.default_rng([settings.seed, _number(f"{label} {split}"), index])
        plucked = label in PLUCKED or notes[0].pitch == 0
        origin = Origin(
            label=label,
            split=split,
            recording=f"philharmonia/{label}/{split}-pitches-{number + 1}",
            source=f"philharmonia/{label}",
            licence="CC-BY-SA-3.0",
            key=f"philharmonia-{split}-{index:03d}",
        )
        phrase = string_phrase(notes, rng, seconds=settings.seconds, plucked=plucked)
        builder.add_audio(phrase, origin, sample_rate=CORPUS_RATE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, jobs))
    items = builder.finish()
    logger.info("notes: %d phrases of %d instruments", len(items), len(instruments))
    return items


def string_phrase(notes: Sequence[_Note], rng: np.random.Generator, *, seconds: float, plucked: bool) -> np.ndarray:
    """String recorded notes into a solo phrase at `CORPUS_RATE`: a random walk in pitch, with rests and dynamics."""
    total = int(seconds * CORPUS_RATE)
    phrase = np.zeros(total + 8 * CORPUS_RATE, dtype=np.float32)
    pitches = sorted({note.pitch for note in notes})
    place = int(rng.integers(len(pitches)))
    beat = float(rng.uniform(0.16, 0.5))
    loudness = float(rng.uniform(0.35, 1.0))
    at = 0
    while at < total - CORPUS_RATE // 10:
        if rng.random() < 0.1 and at > 0:
            at += int(beat * rng.choice([0.5, 1.0, 2.0]) * CORPUS_RATE)
            continue
        place = int(np.clip(place + rng.choice([-4, -3, -2, -1, -1, 0, 1, 1, 2, 3, 4]), 0, len(pitches) - 1))
        choices = [note for note in notes if note.pitch == pitches[place]]
        # near the phrase's loudness most of the time: players do not jump between extremes
        weights = np.array([np.exp(-4.0 * abs(note.gain - loudness)) for note in choices])
        note = choices[int(rng.choice(len(choices), p=weights / weights.sum()))]
        samples = _load(note.path)
        held = int(beat * rng.choice([1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0]) * CORPUS_RATE)
        sounding = min(len(samples), held * 4 if plucked else int(held * rng.uniform(0.85, 1.1)))
        phrase[at : at + sounding] += _faded(samples[:sounding], rng, plucked) * note.gain * rng.uniform(0.8, 1.2)
        at += held if plucked else min(held, sounding) - min(sounding // 4, int(0.015 * CORPUS_RATE))
    return phrase[:total]


def _faded(samples: np.ndarray, rng: np.random.Generator, plucked: bool) -> np.ndarray:
    fade = min(len(samples) // 2, int(rng.uniform(0.02, 0.06) * CORPUS_RATE))
    shaped = samples.copy()
    shaped[len(shaped) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    if not plucked:
        attack = min(fade, CORPUS_RATE // 100)
        shaped[:attack] *= np.linspace(0.0, 1.0, attack, dtype=np.float32)
    return shaped


@lru_cache(maxsize=4096)
def _load(path: Path) -> np.ndarray:
    audio = read_audio(path)
    mono = trim_silence(to_mono(audio.waveform), audio.sample_rate, below_db=40.0)[: 5 * audio.sample_rate]
    mono = resample(mono, from_rate=audio.sample_rate, to_rate=CORPUS_RATE)
    return mono / max(1e-6, float(np.abs(mono).max(initial=0.0)))


def _find_notes(folder: Path) -> dict[str, list[_Note]]:
    found: dict[str, list[_Note]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".mp3", ".wav", ".flac", ".ogg"}):
        place = path.parent.relative_to(folder).as_posix()
        percussion = place.startswith("percussion/")
        label = LABEL_OF_FOLDER.get(place) if percussion else LABEL_OF_FOLDER.get(place, path.parent.name)
        match = _NOTE.search(path.stem)
        if label is None or (match is None and not percussion):
            continue
        dynamic = next((part for part in path.stem.split("_") if part in DYNAMICS), "mezzo-forte")
        pitch = _midi(match["pitch"]) if match is not None and not percussion else 0
        found.setdefault(label, []).append(_Note(path, pitch, DYNAMICS[dynamic]))
    return found


def _split_by_pitch(notes: list[_Note], label: str, settings: NotesSettings) -> dict[str, list[list[_Note]]]:
    """Sets of notes by split; no two sets share a pitch."""
    pitches = sorted({note.pitch for note in notes})
    kept = round(len(pitches) * settings.val_share)
    if len(pitches) < 8 or kept < 2:
        return {"train": [notes]}
    rng = np.random.default_rng([settings.seed, _number(label)])
    held_out = set(rng.choice(pitches, size=kept, replace=False).tolist())
    trained = [pitch for pitch in pitches if pitch not in held_out]
    halves = [set(trained[::2]), set(trained[1::2])]
    return {
        "train": [[note for note in notes if note.pitch in half] for half in halves],
        "val": [[note for note in notes if note.pitch in held_out]],
    }


def _midi(name: str) -> int:
    return 12 * (int(name[-1]) + 1) + _STEPS[name[0]] + ("s" in name)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
