"""Which recordings of a corpus are worth training on: not silent, clipped or there twice, and heard as their label."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from marssep.corpus.fingerprints import duplicates, fingerprint
from marssep.corpus.labels import family_of
from marssep.corpus.manifest import Item
from marssep.corpus.merge import copy_items
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError, OutputError
from marssep.settings import Settings

REPORT = "filter-report.json"
_FRAME = 1600  # 50 ms
_KEPT_FIRST = ("test", "val")  # of two equal recordings the one for judging stays: else training would have heard it


class FilterSettings(Settings):
    """What is thrown out; 0 leaves a check out."""

    shortest: float = Field(0.3, ge=0)
    """Seconds that must sound at least: frames of 50 ms within 40 dB of the loudest count."""
    quietest_db: float = Field(-60.0, le=0)
    """Level of the loudest 50 ms below which a recording is silence, dB of full scale."""
    clipped: float = Field(0.005, ge=0, le=1)
    """Largest share of samples in flat tops (three or more equal samples at the peak)."""
    twice: bool = True
    """Whether recordings that are there twice, by their fingerprints, lose one."""
    rank: int = Field(0, ge=0)
    """An encoder must have a recording's label among its so many nearest (labels of one family are one); 0 asks none.
    The 'clean+' lists of the field were chosen by ear; this is the same by machine, with the machine's errors."""


class Places(Protocol):
    """Embeddings of recordings and words; `query.bank.EmbeddingBank` is one."""

    def text(self, caption: str) -> np.ndarray:
        """Embedding [d] of a caption."""

    def audio(self, item_id: str) -> np.ndarray:
        """Embeddings [k, d], the whole recording first."""


@dataclass(frozen=True)
class Verdicts:
    """What is wrong with which recording.

    Attributes:
        checked: recordings.
        reasons: id -> sentences; only of those that are thrown out.
    """

    checked: int
    reasons: Mapping[str, tuple[str, ...]]

    def summary(self) -> dict[str, Any]:
        """Counts, for the report."""
        kinds = Counter(reason.split(":")[0] for reasons in self.reasons.values() for reason in reasons)
        return {"checked": self.checked, "thrown_out": len(self.reasons), "reasons": dict(sorted(kinds.items()))}


def judge(corpus: Corpus, settings: FilterSettings, *, places: Places | None = None) -> Verdicts:
    """Check every recording of a corpus.

    Args:
        corpus: its decoded sounds are read once.
        settings: what is checked.
        places: embeddings of the corpus; needed for `rank`.

    Raises:
        CorpusError: `rank` without embeddings.
    """
    if settings.rank and places is None:
        raise CorpusError("The check of labels (rank) needs an encoder; name one with --encoder.")
    items = corpus.select(kind="audio")
    reasons: dict[str, list[str]] = {item.id: [] for item in items}
    prints = {}
    for item in items:
        waveform = corpus.audio(item.id)
        reasons[item.id] += _signal_faults(waveform, settings)
        if settings.twice and not reasons[item.id]:
            prints[item.id] = fingerprint(waveform, CORPUS_RATE)
    for one, other in duplicates(prints):
        dropped, kept = sorted((one, other), key=lambda id: _standing(corpus.by_id[id]), reverse=True)
        reasons[dropped].append(f"twice: is {kept} too")
    if settings.rank and places is not None:
        for id, sentence in _unlike(items, places, settings.rank).items():
            reasons[id].append(sentence)
    return Verdicts(len(items), {id: tuple(found) for id, found in reasons.items() if found})


def filter_corpus(corpus: Corpus, verdicts: Verdicts, output: Path, *, settings: FilterSettings) -> list[Item]:
    """Copy what is left into a new corpus folder, with pictures and the report of what is not.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
        CorpusError: nothing is left.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and is not empty; choose another output folder.")
    kept = [item for item in corpus.items if item.id not in verdicts.reasons]
    if not any(item.kind == "audio" for item in kept):
        raise CorpusError(f"{output}: not made, because no recording passes; loosen the settings.")
    copied = copy_items(corpus, kept, output)
    write_report(verdicts, output / REPORT, settings=settings)
    return copied


def write_report(verdicts: Verdicts, path: Path, *, settings: FilterSettings) -> None:
    """Settings, counts, and every recording that is thrown out with the reasons."""
    report = {"settings": settings.model_dump(), **verdicts.summary(), "recordings": verdicts.reasons}
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place.") from None


def _signal_faults(waveform: np.ndarray, settings: FilterSettings) -> list[str]:
    whole = waveform[: len(waveform) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.square(whole).mean(axis=1) if len(whole) else np.array([np.square(waveform).mean()])
    loudest = 10 * np.log10(max(float(power.max(initial=0.0)), 1e-12))
    if loudest < settings.quietest_db:
        return [f"silent: the loudest 50 ms are at {loudest:.0f} dB"]
    faults = []
    sounding = int((power > 1e-4 * power.max()).sum()) * _FRAME / CORPUS_RATE
    if sounding < settings.shortest:
        faults.append(f"short: sounds for {sounding:.2f} s")
    share = flat_tops(waveform)
    if settings.clipped and share > settings.clipped:
        faults.append(f"clipped: {100 * share:.1f} % of the samples are flat tops")
    return faults


def flat_tops(waveform: np.ndarray) -> float:
    """Share of samples in runs of three or more that stand at the peak, within a thousandth of it."""
    if len(waveform) < 3:
        return 0.0
    size = np.abs(waveform)
    top = size > 0.999 * size.max()
    inner = top[:-2] & top[1:-1] & top[2:]
    runs = np.zeros(len(top), bool)
    for shift in range(3):
        runs[shift : len(top) - 2 + shift] |= inner
    return float(runs.mean())


def _standing(item: Item) -> tuple[int, str]:
    """Small for what stays of two equal recordings."""
    split = item.split.split("-")[-1]
    return (_KEPT_FIRST.index(split) if split in _KEPT_FIRST else len(_KEPT_FIRST), item.id)


def _unlike(items: Sequence[Item], places: Places, rank: int) -> dict[str, str]:
    """Recordings whose family is not among the nearest `rank` families, with the words that are nearest."""
    texts = {item.label: item.captions[0] for item in items}
    labels = sorted(texts)
    families = np.array([family_of(label) for label in labels])
    words = np.stack([places.text(texts[label]) for label in labels]).astype(np.float32)
    found = {}
    for item in items:
        near = words @ places.audio(item.id)[0].astype(np.float32)
        order = families[np.argsort(-near, kind="stable")]
        nearest = list(dict.fromkeys(order.tolist()))
        place = nearest.index(family_of(item.label))
        if place >= rank:
            found[item.id] = (
                f"unlike: '{item.label}' is number {place + 1} of what it sounds like; first '{nearest[0]}'"
            )
    return found
