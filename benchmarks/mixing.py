"""How fast a manifest of 100,000 rows is checked and mixed, on one core, before the network.

python benchmarks/mixing.py [--rows 100000] [--folder FOLDER] [--output results/mixing.json]

The rows share some thousand made recordings of 2 to 10 s, as the rows of captioned corpora do; every row has its own id
and recording name. Rates are per second of processor time of one process with one thread; the best of several passes.
"""

import argparse
import cProfile
import hashlib
import io
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from marssep.audio import encode_audio
from marssep.corpus.inspection import find_faults
from marssep.corpus.manifest import Item, read_manifest, write_manifest
from marssep.corpus.mixing import MixingSettings, MixtureSampler, render
from marssep.corpus.store import CORPUS_RATE, MANIFEST, Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.presets import load_preset
from marssep.query import Modality
from marssep.train.batches import TrainingBatches
from marssep.train.settings import SupervisedSettings

LABELS, RECORDINGS, DURATION, PASSES, MIXTURES, BATCHES = 300, 2000, 4.08, 5, 400, 4
WANTED = 500.0


class Vectors:
    """A bank of one vector: the embeddings are looked up, not computed, in training too."""

    modalities: tuple[Modality, ...] = ("text", "audio", "image")

    def __init__(self, dimension: int) -> None:
        self.row = np.full(dimension, dimension**-0.5, np.float16)

    def text(self, caption: str) -> np.ndarray:
        return self.row

    def audio(self, item_id: str) -> np.ndarray:
        return self.row[None]

    def image(self, item_id: str) -> np.ndarray:
        return self.row[None]


def main() -> None:
    """Make, check, mix, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="keep the made corpus here, and use it again")
    parser.add_argument("--output", type=Path, default=Path("results/mixing.json"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.folder is not None:
        results = measure(settings.folder, settings.rows)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder), settings.rows)
    write_text(settings.output, json.dumps(results, indent=1) + "\n")


def measure(folder: Path, rows: int) -> dict[str, object]:
    """Everything."""
    if not (folder / MANIFEST).is_file():
        make(folder, rows)
    checking = {
        "read_manifest": timed(lambda: read_manifest(folder / MANIFEST)),
        "open": timed(lambda: Corpus.open(folder)),
        "check_every_file": timed(lambda: require(not find_faults(folder))),
    }
    corpus = Corpus.open(folder)
    checking["decode_once"] = timed(corpus.decode_all)
    plain = MixingSettings(background=0.0)
    usual = MixingSettings(speed=0.12)
    rates = {
        "draw": rate(lambda index, sampler: sampler.draw(index), sampler(corpus, usual)),
        "draw and render, as in training: 20 % with noise, all played up to 12 % faster or slower": rate(
            lambda index, sampler: render(sampler.draw(index), corpus), sampler(corpus, usual)
        ),
        "draw and render, without noise and changes of speed": rate(
            lambda index, sampler: render(sampler.draw(index), corpus), sampler(corpus, plain)
        ),
    }
    whole = {name: batches(corpus, name) for name in ("default", "paper")}
    return {
        "what": f"mixtures per second of one core, {DURATION} s at {CORPUS_RATE} Hz, 1 to 4 sources (mean 2.45)",
        "rows": len(corpus.items),
        "files": len({item.path for item in corpus.items}),
        "check_seconds": checking,
        "mixtures_per_second": {name: round(value, 1) for name, value in rates.items()},
        "wanted": WANTED,
        "bottlenecks_of_draw_and_render": profile(corpus, usual),
        "whole_examples_per_second": whole,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def require(whole: bool) -> None:
    """The made corpus must pass."""
    if not whole:
        raise SystemExit("the made corpus has faults")


def make(folder: Path, rows: int) -> None:
    """Noises of different colours and lengths, and rows that name them."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(RECORDINGS):
        n = int(rng.uniform(2, 10) * CORPUS_RATE)
        wave = np.cumsum(rng.standard_normal(n)).astype(np.float32)
        wave -= np.linspace(wave[0], wave[-1], n, dtype=np.float32)
        data = encode_audio(0.5 * wave / np.abs(wave).max(), sample_rate=CORPUS_RATE, format="FLAC")
        path = f"audio/{number:05d}.flac"
        (folder / path).write_bytes(data)
        files.append((path, hashlib.sha256(data).hexdigest(), n / CORPUS_RATE))
    items = []
    for number in range(rows):
        path, sha256, duration = files[number % RECORDINGS]
        label = f"sound {number % RECORDINGS % LABELS}"
        items.append(
            Item(
                id=f"bench/{number:06d}",
                kind="audio",
                path=path,
                label=label,
                captions=(label, f"caption {number}"),
                group="sound",
                split="train",
                recording=f"recording {number}",
                source="made",
                licence="CC0-1.0",
                sha256=sha256,
                duration=duration,
                sample_rate=CORPUS_RATE,
            )
        )
    write_manifest(folder / MANIFEST, items)


def sampler(corpus: Corpus, settings: MixingSettings) -> MixtureSampler:
    """Of the only split."""
    return MixtureSampler(corpus, split="train", settings=settings, duration=DURATION)


def rate(step: Callable[[int, MixtureSampler], object], drawn: MixtureSampler) -> float:
    """Steps per second of processor time, the best of some passes over the same mixtures."""
    best = 0.0
    for _ in range(PASSES):
        before = time.process_time()
        for index in range(MIXTURES):
            step(index, drawn)
        best = max(best, MIXTURES / (time.process_time() - before))
    return best


def batches(corpus: Corpus, preset: str) -> dict[str, float]:
    """Whole training examples, with STFT, variation and grid; `paper` hears 16 kHz, so each sound is resampled too."""
    settings = SupervisedSettings.model_validate(load_preset(preset))
    made = TrainingBatches(corpus, Vectors(settings.model.query_dimension), settings)
    best = 0.0
    for _ in range(PASSES):
        before = time.process_time()
        for index in range(BATCHES):
            made[index]
        best = max(best, BATCHES * settings.batch_size / (time.process_time() - before))
    return {"sample_rate": settings.sample_rate, "examples_per_second": round(best, 1)}


def profile(corpus: Corpus, settings: MixingSettings) -> list[dict[str, object]]:
    """Where the time of drawing and rendering goes, by the function's own time."""
    drawn, profiler = sampler(corpus, settings), cProfile.Profile()
    profiler.enable()
    for index in range(MIXTURES):
        render(drawn.draw(index), corpus)
    profiler.disable()
    stats = pstats.Stats(profiler, stream=io.StringIO())
    total = sum(entry[2] for entry in stats.stats.values())
    first = sorted(stats.stats.items(), key=lambda pair: -pair[1][2])[:5]
    return [{"function": name[2], "share": round(entry[2] / total, 3)} for name, entry in first]


def timed(action: Callable[[], object]) -> float:
    """Wall time, s."""
    before = time.monotonic()
    action()
    return round(time.monotonic() - before, 2)


if __name__ == "__main__":
    main()
