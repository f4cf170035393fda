"""What training from windows of shards costs: examples a second and memory, beside a corpus that is decoded as a whole.

    python benchmarks/streaming.py --corpus DIR [--steps 120] [--output results/streaming.json]

The corpus is packed first, as its files are, into shards of `--megabytes`. Every row is a process of its own that makes
the batches of the preset `default` with one thread and nothing else, from the first on: what it takes to read and
decode shards is in the figures, for a window moves on several times. Memory is the process's own: pages of the decoded
corpus, which others may use again, do not count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import psutil
import torch
from mixing import Vectors

from marssep.corpus.pack import PackSettings, pack
from marssep.corpus.store import Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.presets import load_preset
from marssep.train.batches import TrainingBatches
from marssep.train.settings import SupervisedSettings

WAYS = {
    "whole": [],
    "windows of 2 shards, moved every 20 steps": ["streaming.shards=2", "streaming.steps=20"],
    "windows of 2 shards, moved every 100 steps": ["streaming.shards=2", "streaming.steps=100"],
    "windows of 4 shards, moved every 20 steps": ["streaming.shards=4", "streaming.steps=20"],
}


def main() -> None:
    """Pack, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--output", type=Path, default=Path("results/streaming.json"))
    parser.add_argument("--way", choices=WAYS, default=None, help="only this one, printed")
    settings = parser.parse_args()
    if settings.way is not None:
        print(json.dumps(measure(settings.corpus, WAYS[settings.way], settings.steps)))
        return
    with tempfile.TemporaryDirectory() as name:
        packing = PackSettings(recoded=(), shard_megabytes=settings.megabytes)
        pack(Corpus.open(settings.corpus), name, packing)
        write_text(settings.output, json.dumps(compare(name, settings.steps), indent=1) + "\n")


def compare(folder: str, steps: int) -> dict[str, Any]:
    """One process for each way."""
    rows = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--corpus", folder, "--steps", str(steps), "--way", way]
        rows[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(way, rows[way], flush=True)
    corpus = Corpus.open(folder, streaming=True)
    return {
        "what": f"batches 0 to {steps - 1} of preset default, one process, one thread, nothing but batches",
        "shards": len(corpus.shards("train")),
        "hours": round(sum(item.duration for item in corpus.select(kind="audio", split="train")) / 3600, 2),
        "rows": rows,
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def measure(folder: Path, overrides: list[str], steps: int) -> dict[str, Any]:
    """Examples a second of processor and of wall time, and the most memory that is this process's own."""
    torch.set_num_threads(1)
    settings = SupervisedSettings.model_validate(load_preset("default", overrides))
    streaming = settings.streaming.shards > 0
    corpus, before = Corpus.open(folder, streaming=streaming), time.monotonic()
    if not streaming:
        corpus.decode_all()
    prepared = time.monotonic() - before
    batches = TrainingBatches(corpus, Vectors(settings.model.query_dimension), settings)
    wall, processor, most, slowest = time.monotonic(), time.process_time(), 0, 0.0
    for index in range(steps):
        began = time.monotonic()
        batches[index]
        slowest = max(slowest, time.monotonic() - began)
        memory = psutil.Process().memory_info()
        most = max(most, memory.rss - memory.shared)
    examples = steps * settings.batch_size
    return {
        "examples_per_second": round(examples / (time.monotonic() - wall), 1),
        "examples_per_processor_second": round(examples / (time.process_time() - processor), 1),
        "slowest_step_seconds": round(slowest, 2),
        "seconds_to_decode_all_first": round(prepared, 1),
        "most_own_memory_mb": round(most / 2**20),
    }


if __name__ == "__main__":
    main()
