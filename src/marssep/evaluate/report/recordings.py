"""Kept recordings for the page: which items are shown, and their players as data that travels in the file."""

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from marssep.audio import encode_audio, read_audio
from marssep.errors import InputError
from marssep.evaluate.kept import KeptAudio, KeptItem, read_kept_audio
from marssep.evaluate.report.items import GAIN, Series
from marssep.evaluate.report.run import Run
from marssep.evaluate.report.tables import series_name

_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_LARGE_PICTURE = 300_000  # bytes
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Player:
    """One recording.

    Attributes:
        name: what is heard: mixture, target, who separated by which kind of query, or the example asked with.
        gain_db: SI-SDRi of an estimate; None where there is none.
        uri: the encoded recording as a data URI.
    """

    name: str
    gain_db: float | None
    uri: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A kept item with the score of the main system on it.

    Attributes:
        item: the item.
        series: the main system by the kind of query that ranks.
        gain_db: its SI-SDRi.
        place: among all queries of the run, kept or not; 1 is the best.
        n: queries of the run.
    """

    item: KeptItem
    series: Series
    gain_db: float
    place: int
    n: int


def ranked(run: Run) -> list[Ranked]:
    """Kept items that the main system was scored on, best first.

    All are ranked by the first kind of query that the main system was scored with (text, if it was).
    """
    series = run.main_series()
    if run.scores is None or not series:
        return []
    first = next((one for one in series if one.modality == "text"), series[0])
    rows = sorted(run.scores.present(first), key=lambda row: (-row.value(GAIN), row.key))
    places = {row.key: place for place, row in enumerate(rows, 1)}
    found = []
    for item in run.kept:
        key = (item.mixture_id, item.query)
        if key in places and first.name in item.estimates:
            place = places[key]
            found.append(Ranked(item, first, rows[place - 1].value(GAIN), place, len(rows)))
    return sorted(found, key=lambda entry: entry.place)


def best_median_worst(entries: Sequence[Ranked]) -> dict[str, Ranked]:
    """Of the kept items, the ones nearest to best, median and worst of the whole run; fewer where they coincide."""
    if not entries:
        return {}
    n = entries[0].n
    ideal = {"Best": 1.0, "Median": (n + 1) / 2, "Worst": float(n)}
    picked = {what: min(entries, key=lambda one: abs(one.place - place)) for what, place in ideal.items()}
    places = [entry.place for entry in picked.values()]
    return {what: entry for index, (what, entry) in enumerate(picked.items()) if entry.place not in places[:index]}


def players(run: Run, item: KeptItem, *, lossless: Sequence[str] = ()) -> list[Player]:
    """Players of an item: mixture, target, then every system.

    Args:
        run: where the recordings lie.
        item: which one.
        lossless: estimates that are embedded as FLAC together with mixture and target; all others, and all of them
            if this is empty, are Ogg Vorbis at about a fifth of the size.

    Raises:
        InputError: if a recording cannot be read or does not fit its mixture.
    """
    audio: KeptAudio = read_kept_audio(run.folder, item)
    loud = _safe_gain(audio)
    whole = ("mixture", "target", *lossless) if lossless else ()
    named: list[tuple[str, str, float | None, np.ndarray]] = [
        ("mixture", "mixture", None, audio.mixture),
        ("target", "target", None, audio.reference),
    ]
    named += [(key, *_who(run, item, key), waveform) for key, waveform in audio.estimates.items()]
    made = [
        Player(name, gain, _data_uri(waveform * loud, audio.sample_rate, lossless=key in whole))
        for key, name, gain, waveform in named
    ]
    if item.audio is not None:
        example = read_audio(run.folder / item.audio)
        made.append(
            Player("example asked with", None, _data_uri(example.waveform, example.sample_rate, lossless=False))
        )
    return made


def picture(run: Run, item: KeptItem) -> str | None:
    """The picture that a query was asked with as a data URI; None if there is none that a browser shows or it is large.

    Raises:
        InputError: if it cannot be read.
    """
    if item.image is None or (kind := _PICTURES.get(Path(item.image).suffix.lower())) is None:
        return None
    try:
        data = (run.folder / item.image).read_bytes()
    except OSError as error:
        raise InputError(f"{run.folder / item.image}: cannot be read ({error.strerror}).") from None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}" if len(data) <= _LARGE_PICTURE else None


def one_serial(ogg: bytes) -> bytes:
    """An Ogg file whose pages carry serial number 1: the encoder draws one at random, so no two files were equal.

    The checksum is the CRC-32 of polynomial 0x04c11db7, first bit highest, from 0 (RFC 3533); zlib's is its mirror
    image, so bytes and result are mirrored.
    """
    out, start = bytearray(ogg), 0
    while start < len(out):
        n_segments = out[start + 26]
        end = start + 27 + n_segments + sum(out[start + 27 : start + 27 + n_segments])
        out[start + 14 : start + 18] = (1).to_bytes(4, "little")
        out[start + 22 : start + 26] = bytes(4)
        mirrored = zlib.crc32(bytes(out[start:end]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        out[start + 22 : start + 26] = int(f"{mirrored:032b}"[::-1], 2).to_bytes(4, "little")
        start = end
    return bytes(out)


def _data_uri(waveform: Float32[np.ndarray, "c n"], sample_rate: int, *, lossless: bool) -> str:
    if lossless:
        kind, data = "flac", encode_audio(waveform, sample_rate=sample_rate, format="FLAC", subtype="PCM_16")
    else:
        vorbis = encode_audio(waveform, sample_rate=sample_rate, format="OGG", subtype="VORBIS", compression=0.5)
        kind, data = "ogg", one_serial(vorbis)
    return f"data:audio/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _safe_gain(audio: KeptAudio) -> np.float32:
    """One factor for all recordings of an item, so that none clips and they stay comparable."""
    waveforms = (audio.mixture, audio.reference, *audio.estimates.values())
    return np.float32(1.0 / max(1.0, *(float(np.abs(waveform).max(initial=0.0)) for waveform in waveforms)))


def _who(run: Run, item: KeptItem, name: str) -> tuple[str, float | None]:
    """What to call an estimate, and its SI-SDRi if the scores know it."""
    for series in run.scores.series if run.scores is not None else ():
        if series.name == name and run.scores is not None:
            row = run.scores.find(series, (item.mixture_id, item.query))
            gain = math.nan if row is None else row.value(GAIN)
            return series_name(series), gain if math.isfinite(gain) else None
    return name, None
