"""What German, French, Spanish and Chinese names do with a text trunk: do they land where the English ones are?

    python benchmarks/cross_lingual.py --corpus DIR [--encoder NAME] [--heads FILE]

`names`: share of names whose nearest English name is that of the same class. `recordings`: share of recordings of
`val`, `esc10-val` and `test` whose nearest name, among those of one language, is right. Nothing is trained or chosen.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import share_interval
from marssep.query import QueryEncoder, load_encoder

LANGUAGES = ("English", "German", "French", "Spanish", "Chinese")
NAMES = Path(__file__).with_name("cross_lingual_names.json")
SPLITS = ("val", "esc10-val", "test")
PER_CLASS = 12  # recordings at most, so that no class decides


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--encoder", default="open")
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--output", type=Path, default=Path("results/cross-lingual.json"))
    settings = parser.parse_args()
    encoder, corpus = load_encoder(settings.encoder, heads=settings.heads), Corpus.open(settings.corpus)
    results = {
        "what": "names in five languages with one text trunk: see docs/reward.md",
        **measure(encoder, corpus, json.loads(NAMES.read_text(encoding="utf-8"))),
        "encoder": encoder.fingerprint,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(markdown(results))


def measure(encoder: QueryEncoder, corpus: Corpus, table: dict[str, list[str]]) -> dict[str, object]:
    """All shares, by language."""
    labels = list(table)
    names = {
        language: encoder.embed_text([table[label][column] for label in labels])
        for column, language in enumerate(LANGUAGES)
    }
    truth, sounds = recordings(encoder, corpus, labels)
    rows = {}
    for language, places in names.items():
        english = (places @ names["English"].T).argmax(1).numpy() == np.arange(len(labels))
        heard = (sounds @ places.T).argmax(1).numpy() == truth
        same = [table[label][0].lower() == table[label][LANGUAGES.index(language)].lower() for label in labels]
        rows[language] = {
            "names": share(english),
            "recordings": share(heard),
            "spelt_as_in_English": int(np.sum(same)),
            "cosine_with_English": round(float((places * names["English"]).sum(1).mean()), 4),
        }
    return {"n_classes": len(labels), "n_recordings": len(truth), "languages": rows}


def recordings(encoder: QueryEncoder, corpus: Corpus, labels: list[str]) -> tuple[np.ndarray, torch.Tensor]:
    """Numbers of the labels and embeddings of held-out recordings."""
    truth, places = [], []
    for number, label in enumerate(labels):
        items = [i for i in corpus.items if i.kind == "audio" and i.label == label and i.split in SPLITS][:PER_CLASS]
        for item in items:
            wave = torch.from_numpy(corpus.audio(item.id))[None, : 20 * CORPUS_RATE]
            with torch.no_grad():
                places.append(encoder.embed_audio(wave, sample_rate=CORPUS_RATE)[0])
            truth.append(number)
    return np.array(truth), torch.stack(places)


def share(right: np.ndarray) -> dict[str, float]:
    """With its interval."""
    interval = share_interval(right)
    return {"share": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def markdown(results: dict) -> str:
    """A table."""
    n, m = results["n_classes"], results["n_recordings"]
    lines = [
        f"| | names → English names, {n}, % | recordings → names, {m}, % | cosine with English | spelt alike |",
        "|---|---|---|---|---|",
    ]
    for language, row in results["languages"].items():
        shares = [row[key] for key in ("names", "recordings")]
        cells = [f"{100 * s['share']:.0f} [{100 * s['low']:.0f}, {100 * s['high']:.0f}]" for s in shares]
        lines.append(f"| {language} | {cells[0]} | {cells[1]} | {row['cosine_with_English']:.2f} | "
                     f"{row['spelt_as_in_English']} |")  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
