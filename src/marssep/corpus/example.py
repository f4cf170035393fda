"""The included example: one mixture of test recordings whose truth is known, with credits."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from marssep.audio import write_audio
from marssep.corpus.lists import write_list
from marssep.corpus.manifest import Item
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus

MIXTURE, TARGET, SPEC, CREDITS = "mixture.flac", "target.flac", "example.jsonl", "CREDITS.md"
"""Files of an example folder; the first source of the mixture is the target, its first query the question."""

AUTHORS = "authors.json"
"""Optional file of an example folder: authors and licence by item id, where the corpus knows them less exactly."""

_PEAK = 0.7


def build_example(spec: MixtureSpec, corpus: Corpus, folder: str | os.PathLike[str]) -> None:
    """Render `spec` into `folder` as 16-bit FLAC and write down where its recordings come from.

    Raises:
        CorpusError: if the corpus lacks a recording of the mixture.
        OutputError: if the folder cannot be written to.
    """
    folder = Path(folder)
    rendered = render(spec, corpus)
    gain = _PEAK / max(float(np.abs(rendered.mixture).max()), 1e-9)
    folder.mkdir(parents=True, exist_ok=True)
    write_audio(folder / MIXTURE, gain * rendered.mixture, sample_rate=CORPUS_RATE, subtype="PCM_16")
    write_audio(folder / TARGET, gain * rendered.sources[0], sample_rate=CORPUS_RATE, subtype="PCM_16")
    write_list(folder / SPEC, [spec])
    known = folder / AUTHORS
    authors = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    (folder / CREDITS).write_text(credits(spec, corpus, authors), encoding="utf-8")


def credits(spec: MixtureSpec, corpus: Corpus, authors: Mapping[str, str]) -> str:
    """Sources and licences of a mixture's recordings as Markdown; `authors` goes before the manifest's licence."""
    items = [corpus.by_id[source.item] for source in spec.sources]
    rows = [
        f"| {'target' if number == 0 else 'other'} | {_line(item, authors)} | {source.level_db:+.1f} |"
        for number, (item, source) in enumerate(zip(items, spec.sources, strict=True))
    ]
    return "\n".join(
        [
            "# Credits of the included example",
            "",
            f"`{MIXTURE}` is the sum of recordings that no model was trained on; `{TARGET}` is the first one alone.",
            f"Made by `marssep data example` from `{SPEC}`.",
            "",
            "| role | sound | source | authors and licence | level (dB) |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _line(item: Item, authors: Mapping[str, str]) -> str:
    sound = item.captions[0] if item.captions else item.label
    return f"{sound} | {item.source} | {authors.get(item.id, item.licence)}"
