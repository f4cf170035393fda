"""Corpora whose folders say what is what: stems (MUSDB, FUSS), noise of places (DEMAND), a folder for each label."""

import csv
from collections.abc import Iterator
from pathlib import Path

from marssep.corpus.recipes.clips import PICTURES, SOUNDS, Clip, Reading, held_out, label_of
from marssep.errors import CorpusError

STEMS = {"vocals": "singing", "drums": "drum_kit", "bass": "bass_guitar"}
"""Labels of MUSDB's stems; `other` is no class."""

PLACES = {
    "DKITCHEN": "kitchen", "DLIVING": "living room", "DWASHING": "washing machine", "NFIELD": "sports field",
    "NPARK": "park", "NRIVER": "river", "OHALLWAY": "hallway", "OMEETING": "meeting", "OOFFICE": "office",
    "PCAFETER": "cafeteria", "PRESTO": "restaurant", "PSTATION": "station", "SCAFE": "cafe", "SPSQUARE": "square",
    "STRAFFIC": "traffic", "TBUS": "bus", "TCAR": "car interior", "TMETRO": "metro",
}  # fmt: skip
"""DEMAND's folders in words."""

_FUSS_LABELS = "labels.csv"


def musdb(folder: Path, reading: Reading) -> Iterator[Clip]:
    """MUSDB and its like: `train/SONG/{vocals,drums,bass}.wav`, `test/SONG/...`; six pieces of each stem."""
    for split in ("train", "test"):
        for song in sorted(path for path in (folder / split).glob("*") if path.is_dir()):
            for stem, label in STEMS.items():
                found = [path for path in sorted(song.glob(f"{stem}.*")) if path.suffix.lower() in SOUNDS]
                yield Clip(
                    key=f"{song.name}/{stem}",
                    path=found[0] if found else None,
                    label=label,
                    split="val" if split == "train" and held_out(song.name, 10) else split,
                    recording=f"musdb/{song.name}",
                    licence="MUSDB18: academic use only",
                    pieces=6,
                )


def fuss(folder: Path, reading: Reading) -> Iterator[Clip]:
    """FUSS: the sources of `labels.csv` (mixture, source, label), which has to be made, as FUSS names no classes.

    Raises:
        CorpusError: no table, or other columns.
    """
    path = folder / _FUSS_LABELS
    if not path.is_file():
        raise CorpusError(f"{path}: not there; FUSS names no classes: make the table mixture, source, label.")
    places = {source.name: source for source in folder.rglob("*_sources") if source.is_dir()}
    with path.open(newline="", encoding="utf-8") as lines:
        table = csv.DictReader(lines)
        if not {"mixture", "source", "label"} <= set(table.fieldnames or ()):
            raise CorpusError(f"{path}: needs the columns mixture, source, label.")
        for row in table:
            if not all(row[name] for name in ("mixture", "source", "label")):
                reading.broken.append(f"{path}, line {table.line_num}: an empty field")
                continue
            mixture, source = Path(row["mixture"]).stem, Path(row["source"]).stem
            within = places.get(f"{mixture}_sources")
            found = sorted(within.glob(f"{source}.*")) if within else []
            part = within.parent.name if within else "train"
            yield Clip(
                key=f"{mixture}/{source}",
                path=found[0] if found else None,
                label=label_of(row["label"]),
                split={"validation": "val", "eval": "test"}.get(part, "train"),
                recording=f"fuss/{mixture}",
                licence="CC-BY-4.0 (FUSS)",
            )


def demand(folder: Path, reading: Reading) -> Iterator[Clip]:
    """DEMAND: the first microphone of every place, in twelve pieces; a place belongs to one split."""
    for place in sorted(path for path in folder.rglob("*") if path.is_dir()):
        words = PLACES.get(place.name.split("_")[0])
        if words is not None:
            found = sorted(place.glob("ch01.*"))
            yield Clip(
                key=place.name,
                path=found[0] if found else None,
                label=label_of(f"{words} noise"),
                captions=(f"noise of a {words}", f"{words} ambience"),
                split="test" if held_out(place.name, 5) else "train",
                recording=f"demand/{place.name}",
                licence="CC-BY-SA-3.0",
                pieces=12,
            )


def labelled(folder: Path, reading: Reading) -> Iterator[Clip]:
    """Any folder of labelled sounds, `LABEL/FILE` or `SPLIT/LABEL/FILE`; a picture of a sound's name shows it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SOUNDS or not path.is_file():
            continue
        above = path.relative_to(folder).parts[:-1]
        split = above[0] if len(above) > 1 and above[0] in ("train", "val", "test") else ""
        if not above or (split and len(above) < 2):
            reading.broken.append(f"{path}: lies in no folder that says its label")
            continue
        key = "/".join([*above, path.stem])
        pictures = tuple(sorted(one for one in path.parent.glob(f"{path.stem}.*") if one.suffix.lower() in PICTURES))
        yield Clip(
            key=key,
            path=path,
            label=label_of(above[-1]),
            split=split or ("test" if held_out(key, 10) else "val" if held_out(key + "/val", 10) else "train"),
            recording=f"file/{key}",
            licence="as their owner states",
            pictures=pictures,
        )
