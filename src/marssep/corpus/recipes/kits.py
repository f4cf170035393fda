"""Drum kits of the Hydrogen drum machine, played hit by hit: what each sample is, by how hard it was struck."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from marssep.audio import read_audio, resample, to_mono
from marssep.corpus.recipes.tunes import Note
from marssep.corpus.store import CORPUS_RATE
from marssep.errors import CorpusError, InputError

KITS = "usr/share/hydrogen/data/drumkits"
"""Where the package keeps its kits: `KIT/drumkit.xml` and the samples beside it."""

_PIECES = {
    "kick": (r"kick|bass ?drum", (35, 36)),
    "snare": (r"snare(?!.*roll)", (38, 40)),
    "stick": (r"stick|rim ?click", (37,)),
    "closed hat": (r"(hat|hh).*(cl)|(cl).*(hat|hh)", (42,)),
    "pedal hat": (r"(hat|hh).*(ped|pd)|(ped|pd).*(hat|hh)", (44,)),
    "open hat": (r"(hat|hh).*(op)|(op).*(hat|hh)", (46,)),
    "tom": (r"\btom", (41, 43, 45, 47, 48)),
    "crash": (r"crash", (49,)),
    "ride": (r"ride", (51,)),
}
"""What an instrument is by its name, and the General MIDI percussion keys that ask for it; the first match counts."""
_NEEDED = ("kick", "snare", "closed hat")
_HIT_SECONDS = 3.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """One recorded hit.

    Attributes:
        path: the sample.
        softest, loudest: how hard it stands for, 0 to 1.
        gain: what the kit's maker turned it to, factor.
    """

    path: Path
    softest: float
    loudest: float
    gain: float


Kit = dict[int, list[list[Hit]]]
"""The instruments that a General MIDI key may sound, each with its hits."""


def load_kits(folder: Path) -> dict[str, Kit]:
    """The kits below a folder that have a kick, a snare and a closed hi-hat, by name; percussion sets have not.

    Raises:
        CorpusError: if a kit's description is no XML.
    """
    kits = {}
    for description in sorted(folder.glob("*/drumkit.xml")):
        kit = _load_kit(description)
        if all(_PIECES[piece][1][0] in kit for piece in _NEEDED):
            kits[description.parent.name] = kit
        else:
            logger.debug("%s: no drum kit with kick, snare and hi-hat; left out", description.parent.name)
    return kits


def play_kit(kit: Kit, notes: Sequence[Note], *, seconds: float, take: int) -> np.ndarray:
    """A phrase `[n]` at `CORPUS_RATE`: each note is the hit of its key that was struck about as hard.

    Args:
        kit: from `load_kits`.
        notes: what is played; keys that the kit lacks stay silent.
        seconds: length.
        take: which of several instruments of one kind plays (two snares: takes 0 and 1), the same for the whole phrase.
    """
    total = int(seconds * CORPUS_RATE)
    phrase = np.zeros(total, dtype=np.float32)
    for note in notes:
        choices = kit.get(note.pitch)
        at = int(note.start * CORPUS_RATE)
        if not choices or at >= total:
            continue
        hard = note.velocity / 127.0
        hit = min(choices[take % len(choices)], key=lambda hit: abs(hard - (hit.softest + hit.loudest) / 2))
        layers = hit.loudest - hit.softest < 1.0  # a kit with layers already has soft hits that are soft
        samples = _load_hit(hit.path)[: total - at]
        phrase[at : at + len(samples)] += samples * hit.gain * (hard if layers else hard**2)
    return phrase


def _load_kit(description: Path) -> Kit:
    try:
        root = ElementTree.fromstring(description.read_bytes())  # noqa: S314  # from the distribution, not from users
    except ElementTree.ParseError as error:
        raise CorpusError(f"{description}: not readable as XML ({error}); fetch its package again.") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # some kits name a namespace, some do not
    kit: Kit = {}
    for instrument in root.iter("instrument"):
        keys = _keys_of(instrument.findtext("name") or "")
        hits = [hit for hit in _hits(instrument, description.parent) if hit.path.is_file()]
        for key in keys if hits else ():
            kit.setdefault(key, []).append(hits)
    return kit


def _keys_of(name: str) -> tuple[int, ...]:
    return next((keys for pattern, keys in _PIECES.values() if re.search(pattern, name.lower())), ())


def _hits(instrument: ElementTree.Element, folder: Path) -> list[Hit]:
    volume = float(instrument.findtext("volume") or 1.0)
    if (single := instrument.findtext("filename")) is not None:
        return [Hit(folder / single, 0.0, 1.0, volume)]
    return [
        Hit(
            folder / (layer.findtext("filename") or ""),
            float(layer.findtext("min") or 0.0),
            float(layer.findtext("max") or 1.0),
            volume * float(layer.findtext("gain") or 1.0),
        )
        for layer in instrument.iter("layer")
    ]


@lru_cache(maxsize=1024)
def _load_hit(path: Path) -> np.ndarray:
    try:
        audio = read_audio(path)
    except InputError as error:
        logger.warning("hit skipped: %s", error)
        return np.zeros(0, dtype=np.float32)
    mono = to_mono(audio.waveform)[: int(_HIT_SECONDS * audio.sample_rate)]
    return resample(mono, from_rate=audio.sample_rate, to_rate=CORPUS_RATE)
