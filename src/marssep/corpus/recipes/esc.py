"""Recipe `esc`: ESC-50 and ESC-10 folders (Piczak, "ESC: Dataset for Environmental Sound Classification", 2015)."""

import csv
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from marssep.audio import read_audio
from marssep.corpus.manifest import Item
from marssep.corpus.recipes.building import CorpusBuilder, Origin, need_folder
from marssep.errors import CorpusError

SPLIT_OF_FOLD = {1: "train", 2: "train", 3: "train", 4: "esc10-val", 5: "test"}

SPLIT_OF_RECORDING = {"19898": "val"}
"""Recordings that are in other recipes too: this chainsaw is a validation recording of `open` (OpenSFX)."""

LABEL_OF_CATEGORY = {
    "breathing": "cough",
    "car_horn": "horn",
    "chirping_birds": "songbird",
    "church_bells": "bell",
    "clock_tick": "clock",
    "coughing": "cough",
    "crackling_fire": "fire",
    "crickets": "insect",
    "crying_baby": "baby_cry",
    "dog_bark": "dog",
    "door_wood_creaks": "door",
    "door_wood_knock": "door",
    "engine": "car",
    "fire_crackling": "fire",
    "glass_breaking": "glass",
    "hand_saw": "saw",
    "hen": "rooster",
    "insects": "insect",
    "keyboard_typing": "keyboard",
    "laughing": "laughter",
    "person_sneeze": "sneeze",
    "pouring_water": "water",
    "sneezing": "sneeze",
    "thunderstorm": "thunder",
    "toilet_flush": "toilet",
    "water_drops": "water",
}
"""Categories whose meaning is one of our labels; the others keep their own name."""

_CLIP = re.compile(r"(?P<fold>\d)-(?P<id>\d+)-(?P<take>[A-Z])")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Clip:
    path: Path
    category: str
    fold: int
    recording: str
    take: str


def build_esc(source: str | os.PathLike[str] | None, output: str | os.PathLike[str]) -> list[Item]:
    """Make a corpus of an ESC folder: folds 1 to 3 train, fold 4 `esc10-val`, fold 5 `test`.

    Args:
        source: `audio/*.wav` with `meta/esc50.csv`, or `CATEGORY/FOLD-ID-TAKE.ogg`.
        output: the corpus folder to write.

    Raises:
        CorpusError: if the folder has neither layout.
    """
    folder = need_folder(source, recipe="esc", layout="audio/*.wav and meta/esc50.csv, or CLASS/FOLD-ID-TAKE.ogg")
    clips = list(_esc50(folder) if (folder / "meta" / "esc50.csv").is_file() else _esc10(folder))
    if not clips:
        raise CorpusError(f"{folder}: neither meta/esc50.csv nor CLASS/FOLD-ID-TAKE.ogg in it; name an ESC folder.")
    builder = CorpusBuilder(output, name="esc")

    def add(clip: _Clip) -> None:
        audio = read_audio(clip.path)
        origin = Origin(
            label=LABEL_OF_CATEGORY.get(clip.category, clip.category),
            split=SPLIT_OF_RECORDING.get(clip.recording, SPLIT_OF_FOLD[clip.fold]),
            recording=f"freesound/{clip.recording}",
            source=f"ESC/{clip.category}/{clip.fold}-{clip.recording}-{clip.take}",
            # ESC-10 is CC BY; the rest of ESC-50 adds "non-commercial", so that is what a whole ESC-50 folder gets.
            licence="CC-BY-NC-3.0" if (folder / "meta" / "esc50.csv").is_file() else "CC-BY-3.0",
            key=f"{clip.fold}-{clip.recording}-{clip.take}",
        )
        builder.add_audio(audio.waveform, origin, sample_rate=audio.sample_rate)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, clips))
    items = builder.finish()
    logger.info("esc: %d of %d clips", len(items), len(clips))
    return items


def _esc50(folder: Path) -> Iterator[_Clip]:
    with (folder / "meta" / "esc50.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                path = folder / "audio" / row["filename"]
                yield _Clip(path, row["category"], int(row["fold"]), row["src_file"], row["take"])
            except (KeyError, ValueError) as error:
                raise CorpusError(f"{folder / 'meta' / 'esc50.csv'}: bad row {row} ({error}).") from None


def _esc10(folder: Path) -> Iterator[_Clip]:
    for path in sorted([*folder.glob("*/*.ogg"), *folder.glob("*/*.wav")]):
        match = _CLIP.match(path.stem)
        if match and int(match["fold"]) in SPLIT_OF_FOLD:
            category = re.sub(r"^\d+\s*-\s*", "", path.parent.name).strip().lower().replace(" ", "_")
            yield _Clip(path, category, int(match["fold"]), match["id"], match["take"])
