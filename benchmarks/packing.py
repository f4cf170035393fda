"""What coding the training sounds smaller costs: bytes of a packed corpus, and how far the grid of a sound moves.

    python benchmarks/packing.py --corpus DIR [--sounds 120] [--output results/packing.json]

The distance of a sound is the root of the mean squared difference in dB of its cells on a grid of 256 rows, before and
after, over the cells within 40 dB of the loudest one. Bytes of the whole split follow from these sounds and its length,
and are those of the sounds alone: pictures and the headers of the shards come on top.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from marssep.audio import decode_audio, encode_audio, resample
from marssep.corpus.pack import PackSettings
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.spectral import SpectralSettings, Spectrogram

CODED_RATE = 48000
FLOOR = 1e-4
SEED = 0
SPECTROGRAM = Spectrogram(SpectralSettings(n_bands=256))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--sounds", type=int, default=120)
    parser.add_argument("--compression", type=float, nargs="+", default=[0.9, 0.94, 0.955, 0.965, 0.97, 0.98])
    parser.add_argument("--output", type=Path, default=Path("results/packing.json"))
    settings = parser.parse_args()
    corpus = Corpus.open(settings.corpus)
    items = [item for item in corpus.select(split="train") if item.kind == "audio"]
    seconds = sum(item.duration for item in items)
    chosen = np.random.default_rng(SEED).choice(len(items), min(settings.sounds, len(items)), replace=False)
    sounds = [corpus.audio(items[place].id) for place in chosen]
    heard = sum(map(len, sounds)) / CORPUS_RATE
    rows = []
    for compression in settings.compression:
        coded = list(measure(sounds, compression))
        size, distances = sum(each for each, _ in coded), [each for _, each in coded]
        rows.append(
            {
                "compression": compression,
                "kilobits_per_second": round(size * 8 / heard / 1000, 1),
                "megabytes_of_all": round(size / heard * seconds / 1e6, 1),
                "distance_db_median": round(float(np.median(distances)), 2),
                "distance_db_mean": round(float(np.mean(distances)), 2),
            }
        )
        print(rows[-1], flush=True)
    results = {
        "what": "training sounds as Opus in packed shards; see benchmarks/packing.py",
        "default": PackSettings().compression,
        "sounds": len(sounds),
        "of": {"recordings": len(items), "seconds": round(seconds)},
        "rows": rows,
        "seed": SEED,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")


def measure(sounds: list[np.ndarray], compression: float) -> Iterator[tuple[int, float]]:
    """Bytes and distance of every sound."""
    for sound in sounds:
        waveform = resample(sound, from_rate=CORPUS_RATE, to_rate=CODED_RATE)
        data = encode_audio(waveform, sample_rate=CODED_RATE, format="OGG", subtype="OPUS", compression=compression)
        back = decode_audio(data, name="a coded sound")
        again = resample(back.waveform[0], from_rate=back.sample_rate, to_rate=CORPUS_RATE)
        length = min(len(again), len(sound))
        before, after = grid(sound[:length]), grid(again[:length])
        loud = before > FLOOR * before.max()
        least = 1e-12 * before.max()
        change = 10 * np.log10((after[loud] + least) / (before[loud] + least))
        yield len(data), float(np.sqrt(np.square(change).mean()))


def grid(sound: np.ndarray) -> np.ndarray:
    """Power of a sound on the grid."""
    return SPECTROGRAM.to_grid(SPECTROGRAM.stft(torch.from_numpy(sound)[None], CORPUS_RATE), CORPUS_RATE).numpy()


if __name__ == "__main__":
    main()
