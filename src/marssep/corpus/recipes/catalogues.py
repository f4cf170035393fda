"""Lists of published corpora (VGGSound, MUSIC, AudioCaps, FSD50K) and of the ancestors' training programs."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from marssep.corpus.recipes.clips import Clip, Reading, Shelf, held_out, label_of
from marssep.errors import CorpusError

_VIDEO_TERMS = "various (films of a video platform; research use)"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "train"}
_PIECES = 6  # of 10 s out of a film of minutes


def vggsound(folder: Path, reading: Reading) -> Iterator[Clip]:
    """VGGSound: `vggsound.csv` (id, second, label, split); clips named `ID_SECOND`, frames in folders of that name.

    Raises:
        CorpusError: no list.
    """
    shelf = Shelf(folder)
    for where, row in _rows(_one(folder, "vggsound.csv"), reading, width=4):
        id, second, label, split = (cell.strip() for cell in row)
        if not second.isdigit() or split not in ("train", "test") or not label:
            reading.broken.append(f"{where}: not 'id,second,label,train|test': {','.join(row)}")
            continue
        key = f"{id}_{int(second):06d}"
        names = (key, f"{id}_{int(second)}", id)
        yield Clip(
            key=key,
            path=shelf.sound(*names),
            label=label_of(label),
            captions=(label, f"the sound of {label}"),
            split="val" if split == "train" and held_out(id, 20) else split,
            recording=f"youtube/{id}",
            licence=_VIDEO_TERMS,
            pictures=shelf.pictures(*names),
        )


def music(folder: Path, reading: Reading) -> Iterator[Clip]:
    """MUSIC: `MUSIC_solo_videos.json` or another list `{"videos": {instrument: [id]}}`; recordings named by their id.

    Raises:
        CorpusError: no list, or another form.
    """
    shelf = Shelf(folder)
    path = _one(folder, "MUSIC*solo*.json")
    videos = _object(path).get("videos")
    if not isinstance(videos, dict):
        raise CorpusError(f"{path}: no MUSIC list ('videos': instrument -> ids).")
    for instrument, ids in videos.items():
        if not isinstance(ids, list) or not all(isinstance(id, str) and id for id in ids):
            reading.broken.append(f"{path}: '{instrument}' has no list of ids")
            continue
        for id in ids:
            yield Clip(
                key=id,
                path=shelf.sound(id),
                label=label_of(instrument),
                split="test" if held_out(id, 10) else "val" if held_out(id + "/val", 10) else "train",
                recording=f"youtube/{id}",
                licence=_VIDEO_TERMS,
                pictures=shelf.pictures(id),
                pieces=_PIECES,
            )


def audiocaps(folder: Path, reading: Reading) -> Iterator[Clip]:
    """AudioCaps: `{train,val,test}.csv` (audiocap_id, youtube_id, start_time, caption); an item has all words.

    Raises:
        CorpusError: no list.
    """
    shelf = Shelf(folder)
    for path in _lists(folder, ("train.csv", "val.csv", "test.csv")):
        captions: dict[tuple[str, str], list[str]] = defaultdict(list)
        ids: dict[tuple[str, str], str] = {}
        for where, row in _table(path, ("audiocap_id", "youtube_id", "start_time", "caption"), reading):
            if not row["youtube_id"] or not row["caption"].strip() or not row["start_time"].isdigit():
                reading.broken.append(f"{where}: no id, second or caption")
                continue
            clip = (row["youtube_id"], row["start_time"])
            captions[clip].append(row["caption"].strip())
            ids.setdefault(clip, row["audiocap_id"])
        for (id, second), texts in captions.items():
            key = f"{id}_{second}"
            names = (key, f"{id}_{int(second):06d}", id, ids[id, second], f"Y{id}")
            yield Clip(
                key=key,
                path=shelf.sound(*names),
                label=label_of(f"audiocaps {key}"),
                captions=tuple(texts),
                split=_SPLITS.get(path.stem, path.stem),
                recording=f"youtube/{id}",
                licence=_VIDEO_TERMS,
                pictures=shelf.pictures(*names),
            )


def fsd50k(folder: Path, reading: Reading) -> Iterator[Clip]:
    """FSD50K: `FSD50K.ground_truth/dev.csv` and `eval.csv`; the first, most special label is the clip's.

    Raises:
        CorpusError: no list.
    """
    shelf = Shelf(folder)
    licences = _fsd_licences(folder)
    for path in _lists(folder, ("FSD50K.ground_truth/dev.csv", "FSD50K.ground_truth/eval.csv")):
        for where, row in _table(path, ("fname", "labels"), reading):
            labels = [label for label in row["labels"].split(",") if label]
            if not row["fname"].isdigit() or not labels:
                reading.broken.append(f"{where}: no number or no label")
                continue
            words = [label.replace("_", " ").lower() for label in labels]
            yield Clip(
                key=row["fname"],
                path=shelf.sound(row["fname"]),
                label=label_of(labels[0]),
                captions=(words[0], f"the sound of {words[0]}", ", ".join(words)),
                split=_SPLITS.get(row.get("split") or "", "test"),
                recording=f"freesound/{row['fname']}",
                licence=licences.get(row["fname"], "CC (by clip, see FSD50K.metadata)"),
            )


def clipsep(folder: Path, reading: Reading) -> Iterator[Clip]:
    """CLIPSep's and OmniSep's lists: every `*.csv` of sound, folder of frames, number of frames, label.

    Raises:
        CorpusError: no such list.
    """
    shelf = Shelf(folder)
    paths = sorted(folder.rglob("*.csv"))
    if not paths:
        raise CorpusError(f"{folder}: has no *.csv; put the lists (train.csv, val.csv, test.csv) there.")
    for path in paths:
        for where, row in _rows(path, reading, width=4):
            audio, frames, count, label = (cell.strip() for cell in row)
            if not count.isdigit() or not audio or not label:
                reading.broken.append(f"{where}: not 'sound,frames,number of frames,label': {','.join(row)}")
                continue
            stem = Path(audio.replace("\\", "/")).stem
            yield Clip(
                key=stem,
                path=shelf.sound(stem),
                label=label_of(label),
                captions=(label.replace("_", " "), f"the sound of {label.replace('_', ' ')}"),
                split=_SPLITS.get(path.stem.split("-")[0], "test"),
                recording=f"youtube/{stem.rsplit('_', 1)[0] if stem.rsplit('_', 1)[-1].isdigit() else stem}",
                licence=_VIDEO_TERMS,
                pictures=shelf.pictures(Path(frames).stem, stem),
            )


def audiosep(folder: Path, reading: Reading) -> Iterator[Clip]:
    """AudioSep's lists: every `*.json` of `{"data": [{"wav": FILE, "caption": WORDS}]}`.

    Raises:
        CorpusError: no such list.
    """
    shelf = Shelf(folder)
    lists = [(path, rows) for path in sorted(folder.rglob("*.json")) if (rows := _object(path).get("data")) is not None]
    if not lists:
        raise CorpusError(f"{folder}: has no list of the form {{'data': [{{'wav': ..., 'caption': ...}}]}}.")
    for path, rows in lists:
        for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
            fields = row if isinstance(row, dict) else {}
            wav, caption = fields.get("wav"), fields.get("caption")
            if not isinstance(wav, str) or not isinstance(caption, str) or not caption.strip():
                reading.broken.append(f"{path}, entry {number}: no 'wav' or no 'caption'")
                continue
            stem = Path(wav.replace("\\", "/")).stem
            yield Clip(
                key=stem,
                path=shelf.sound(stem),
                label=label_of(caption)[:80],
                captions=(caption.strip(),),
                split=next((name for name in ("train", "val", "test") if name in path.stem), "train"),
                recording=f"file/{stem}",
                licence="as the recordings' source states",
            )


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise CorpusError(f"{folder}: has no {pattern}; put the corpus's list there.")
    return found[0]


def _lists(folder: Path, names: Sequence[str]) -> list[Path]:
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise CorpusError(f"{folder}: has none of {', '.join(names)}; put the corpus's lists there.")
    return found


def _rows(path: Path, reading: Reading, *, width: int) -> Iterator[tuple[str, list[str]]]:
    """Rows of a table without header, with the place of each; those of another width are broken."""
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(csv.reader(lines), start=1):
            if len(row) == width:
                yield f"{path}, line {number}", row
            elif row:
                reading.broken.append(f"{path}, line {number}: {len(row)} fields instead of {width}")


def _table(path: Path, columns: Sequence[str], reading: Reading) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a table with header as names to texts."""
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        table = csv.DictReader(lines)
        if lacking := [name for name in columns if name not in (table.fieldnames or ())]:
            raise CorpusError(f"{path}: has no column '{lacking[0]}'; the first line must name {', '.join(columns)}.")
        for row in table:
            where = f"{path}, line {table.line_num}"
            if None in row or any(row[name] is None for name in columns):
                reading.broken.append(f"{where}: not as many fields as columns")
            else:
                yield where, row


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error}).") from None
    return found if isinstance(found, dict) else {}


def _fsd_licences(folder: Path) -> dict[str, str]:
    licences = {}
    for part in ("dev", "eval"):
        path = folder / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
        if path.is_file():
            for id, about in _object(path).items():
                if isinstance(about, dict) and about.get("license"):
                    licences[id] = str(about["license"])
    return licences
