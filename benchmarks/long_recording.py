"""Hours of recording: memory, speed, exactness against the computation on the whole, and eight queries in one pass.

    python benchmarks/long_recording.py [--hours 3] [--minutes 10] [--runs 3] [--output results/long-recording.json]

A stereo file at 48 kHz is made in a temporary folder from the included recording and made sounds, the same with every
run; the short one is its beginning. Every separation is `marssep separate` in a fresh process, start and model load
included; peak memory is what that process says of itself. Ways are taken in turns, so that a busy minute falls on all.

whole      one spectrogram, one mask and one inverse over the short recording held in memory, with the network on the
           same chunks as the stream; float file in, float file out, so that rounding to 16 bits does not count
one pass   the same with a single pass of the network over all columns, which it was not trained for: for information
eight      eight texts in one pass over the short recording against the first of them alone
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marssep.audio import AudioWriter, read_audio, resample
from marssep.cli.demo import EXAMPLES
from marssep.corpus.example import MIXTURE
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.query import Query
from marssep.separate import Separator
from marssep.separate.bundle import Bundle, Layout
from marssep.separate.measuring import Cost, measure_command, one_pass_target, snr_by_window, snr_db, whole_target
from marssep.separate.presence import Stretches

RATE = 48000
SEED = 0
PIECE_SECONDS = 8
TEXTS = ["dog barking", "rain", "violin", "person speaking", "siren", "piano", "car engine", "bird singing"]
MOST_MEMORY_MB, MOST_GROWTH, MOST_REAL_TIME, LEAST_SNR_DB, MOST_FOR_EIGHT = 700.0, 0.1, 0.05, 60.0, 1.6


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name of a shipped model or a model folder")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long file")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the short file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files lie meanwhile; 9 GB for three hours")
    parser.add_argument("--output", type=Path, default=Path("results/long-recording.json"))
    settings = parser.parse_args()
    load = [round(value, 2) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        results = measure(settings, Path(name))
    results |= {
        "model": Path(settings.model).name,
        "texts": TEXTS,
        "seed": SEED,
        "runs": settings.runs,
        "load_before": load,
        "processors_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def measure(settings: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, in an order that needs few files at a time."""
    short, long = folder / "short.wav", folder / "long.wav"
    write_recording(short, settings.minutes * 60)
    ways = {"short": (short, TEXTS[:1]), "eight": (short, TEXTS), "long": (long, TEXTS[:1])}
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for turn in range(settings.runs):
        for name in ("short", "eight"):
            costs[name].append(separate(*ways[name], settings.model))
            print(turn, name, costs[name][-1], file=sys.stderr, flush=True)
    write_recording(long, settings.hours * 3600)
    for turn in range(settings.runs):
        costs["long"].append(separate(*ways["long"], settings.model))
        print(turn, "long", costs["long"][-1], file=sys.stderr, flush=True)
    long.unlink()
    exactness = compare(folder, settings)
    seconds = {"short": settings.minutes * 60, "eight": settings.minutes * 60, "long": settings.hours * 3600}
    rows = {name: _row(costs[name], seconds[name]) for name in ways}
    return {
        "what": "marssep separate, stereo 48 kHz, 16 bits, fresh processes, start and model load included",
        "bars": _bars(rows, exactness),
        "recordings": rows,
        "exactness": exactness,
        "parts": Parts(settings.model).seconds_per_minute(),
    }


def write_recording(path: Path, seconds: float, *, subtype: str = "PCM_16") -> None:
    """Stream a recording to the disk; a shorter one is the beginning of a longer one."""
    frames = round(seconds * RATE)
    with AudioWriter(path, sample_rate=RATE, channels=2, subtype=subtype, frames=frames) as writer:
        left = frames
        for piece in pieces():
            writer.write(piece[:, :left])
            left -= min(left, piece.shape[-1])
            if not left:
                break
        writer.finish()
        writer.publish()


def pieces() -> Iterator[np.ndarray]:
    """Pieces `[2, n]` without end: the included recording at changing levels and places, made sounds around it."""
    example = read_audio(EXAMPLES / MIXTURE)
    included = resample(example.waveform, from_rate=example.sample_rate, to_rate=RATE).mean(0)[: PIECE_SECONDS * RATE]
    time_axis = np.arange(len(included)) / RATE
    number = 0
    while True:
        rng = np.random.default_rng([SEED, number])
        level, place = rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.9)
        glide = rng.uniform(200, 2000) + 30 * np.sin(2 * np.pi * rng.uniform(0.1, 2) * time_axis)
        tone = 0.1 * np.sin(2 * np.pi * np.cumsum(glide) / RATE)
        bursts = 0.05 * rng.standard_normal(len(included)) * (np.sin(2 * np.pi * rng.uniform(0.3, 3) * time_axis) > 0)
        sides = [level * side * included + made for side, made in ((place, tone + bursts), (1 - place, bursts - tone))]
        yield np.stack(sides).clip(-0.99, 0.99).astype(np.float32)
        number += 1


def separate(recording: Path, texts: list[str], model: str, *, options: tuple[str, ...] = ()) -> Cost:
    """One run in a process of its own; its results are thrown away."""
    with tempfile.TemporaryDirectory(dir=recording.parent) as folder:
        asked = [part for text in texts for part in ("--text", text)]
        return measure_command(["separate", str(recording), *asked, "--model", model, "--output", folder, *options])


def compare(folder: Path, settings: argparse.Namespace) -> dict[str, Any]:
    """The stream's target against that of the whole, in real numbers."""
    recording, made = folder / "exact.wav", folder / "exact"
    write_recording(recording, settings.minutes * 60, subtype="FLOAT")
    options = ["--output", str(made), "--template", "{part}", "--no-gate", "--model", settings.model]
    measure_command(["separate", str(recording), "--text", TEXTS[0], *options])
    stream = torch.from_numpy(read_audio(made / "target.wav").waveform)
    waveform = torch.from_numpy(read_audio(recording).waveform)
    separator = Separator.load(settings.model)
    given = (separator.model, waveform, RATE, separator.embed(Query(text=TEXTS[0])))
    whole = whole_target(*given)
    seconds, tenths = (snr_by_window(stream, whole, size) for size in (RATE, RATE // 10))
    return {
        "seconds": waveform.shape[-1] / RATE,
        "worst_second_db": round(float(seconds.min()), 1),
        "worst_second_at": int(seconds.argmin()),
        "worst_tenth_of_a_second_db": round(float(tenths.min()), 1),
        "median_second_db": round(float(seconds.median()), 1),
        "all_db": round(snr_db(stream, whole), 1),
        "one_pass_of_the_network_db": round(snr_db(whole, one_pass_target(*given)), 1),
    }


def _row(costs: list[Cost], seconds: float) -> dict[str, Any]:
    wall = [cost.wall_seconds for cost in costs]
    return {
        "seconds": seconds,
        "real_time_factor": round(statistics.median(wall) / seconds, 4),
        "peak_memory_mb": round(max(cost.peak_memory_mb for cost in costs), 1),
        "wall_seconds_median": round(statistics.median(wall), 2),
        "wall_seconds": [round(each, 2) for each in wall],
        "processor_seconds_median": round(statistics.median(cost.processor_seconds for cost in costs), 2),
    }


def _bars(rows: dict[str, dict[str, Any]], exactness: dict[str, Any]) -> dict[str, dict[str, Any]]:
    growth = rows["long"]["peak_memory_mb"] / rows["short"]["peak_memory_mb"] - 1.0
    eight = rows["eight"]["wall_seconds_median"] / rows["short"]["wall_seconds_median"]
    memory, factor, snr = (
        rows["long"]["peak_memory_mb"],
        rows["long"]["real_time_factor"],
        exactness["worst_second_db"],
    )
    return {
        "peak memory of the long recording, MB": _bar(memory, MOST_MEMORY_MB, memory <= MOST_MEMORY_MB),
        "its growth over the short one": _bar(growth, MOST_GROWTH, abs(growth) <= MOST_GROWTH),
        "real-time factor of the long recording": _bar(factor, MOST_REAL_TIME, factor <= MOST_REAL_TIME),
        "worst second against the whole, dB": _bar(snr, LEAST_SNR_DB, snr >= LEAST_SNR_DB),
        "eight queries over one, wall time": _bar(eight, MOST_FOR_EIGHT, eight <= MOST_FOR_EIGHT),
    }


def _bar(value: float, bar: float, met: bool) -> dict[str, Any]:
    return {"value": round(value, 4), "bar": bar, "met": met}


class Parts:
    """What the parts of the way cost, each alone and on one thread, so that it can be seen what a query more costs."""

    def __init__(self, model: str) -> None:
        self._separator = Separator.load(model)
        self._model = self._separator.model
        rows = [self._separator.embed(Query(text=text)) for text in TEXTS]
        self._queries = torch.cat(rows)[None]
        samples = 1 << 17
        self._waveform = torch.from_numpy(next(pieces())[:, :samples]).contiguous()
        self._blocks = 60 * RATE / samples
        config = self._model.config
        self._chunks = 60.0 / (config.spectral.step_seconds * config.chunk_steps * 0.75)

    @torch.inference_mode()
    def seconds_per_minute(self) -> dict[str, Any]:
        """Seconds for a minute of stereo, and for a recording of any length where the part does not grow with it."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            eight, one = self._network(8), self._network(1)
            query = (eight - one) / 7
            inverse, writing = self._inverse(), self._writing()
            return {
                "what": "seconds for a minute of stereo at 48 kHz, one thread, least of 25 (writing: of 7)",
                "spectrogram, twice": round(2 * self._spectrogram(), 4),
                "network, what all queries share": round(one - query, 4),
                "network, each query": round(query, 4),
                "mask and inverse, each query": round(inverse, 4),
                "writing, each query": round(writing, 4),
                "each query": round(query + inverse + writing, 4),
                "listening, each query, whatever the length": round(self._listening(), 4),
            }
        finally:
            torch.set_num_threads(threads)

    def _network(self, n_queries: int) -> float:
        power = torch.rand(2, self._model.config.spectral.n_bands, self._model.config.chunk_steps)
        queries = self._queries[:, :n_queries].expand(2, -1, -1)
        return self._chunks / 2 * least(lambda: self._model.network(power, queries))

    def _spectrogram(self) -> float:
        return self._blocks * least(lambda: self._model.spectral.stft(self._waveform, RATE))

    def _inverse(self) -> float:
        spectral = self._model.spectral
        spectrum = spectral.stft(self._waveform, RATE)
        columns = torch.rand(spectral.settings.n_bands, spectral.n_steps(spectrum.shape[-1]) + 1)

        def way() -> torch.Tensor:
            masked = spectrum * spectral.from_grid(columns, RATE, spectrum.shape[-1])
            return spectral.istft(masked, RATE, self._waveform.shape[-1])

        return self._blocks * least(way)

    def _writing(self) -> float:
        """Both files of a query for a minute, rounded, written and on the disk."""
        mixture = self._waveform.numpy()
        target = 0.3 * mixture

        def minute() -> None:
            layout = Layout(RATE, len(mixture), round(self._blocks) * mixture.shape[-1])
            with Bundle([folder / "t.wav"], folder / "r.wav", layout=layout, subtype="PCM_16") as bundle:
                for _ in range(round(self._blocks)):
                    bundle.write([target], mixture)
                bundle.finish()

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            return least(minute, repeats=7)

    def _listening(self) -> float:
        if not self._model.config.evidence_weights.listens:
            return 0.0
        stretches = Stretches(RATE, seconds=self._model.chunk_seconds)
        for piece, _ in zip(pieces(), range(math.ceil(60 / PIECE_SECONDS)), strict=False):
            stretches.push(torch.from_numpy(piece))
        return least(lambda: stretches.embed(self._separator.encoder))


def least(work: Callable[[], Any], repeats: int = 25) -> float:
    """Seconds of the fastest of some runs, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


if __name__ == "__main__":
    main()
