"""Start-up, speed, memory and exactness of one separation in PyTorch and onnxruntime, each run a fresh process.

    python benchmarks/runtimes.py [--runs 5] [--seconds 60] [--only onnxruntime] [--output results/runtimes.json]

start-up         from the start of the process until a first excerpt of five seconds is separated: imports, weights,
                 query, and what a runtime compiles or allocates at first use
real-time factor time for the whole file after that, per second of sound, reading it included
SNR              of the target against that of `torch-fp32` with one thread
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "dog barking"
REFERENCE = ("torch-fp32", 1)
QUANTISED = "exported-int8"
VARIANTS: dict[str, str] = {
    "torch-fp32": "PyTorch, float32 (what `marssep separate` does)",
    "torch-channels-last": "PyTorch, float32, weights of the network in channels_last too",
    "torch-bf16": "PyTorch, network under bfloat16 autocast",
    "torch-compile": "PyTorch, network compiled by inductor, its cache empty at first",
    "onnxruntime": "marssep.runtime, float32, stored query",
    "onnxruntime-text": "marssep.runtime, float32, words through the exported text encoder",
    "onnxruntime-int8": "marssep.runtime, network quantised dynamically to 8 bits, stored query",
}


def main() -> None:
    """Measure and write, or be one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name of a shipped model or a model folder")
    parser.add_argument("--seconds", type=int, default=60, help="length of the file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(VARIANTS), help="names of variants, joined by commas")
    parser.add_argument("--output", type=Path, default=Path("results/runtimes.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.child:
        print(json.dumps(_measured(**json.loads(settings.child))))
        return
    with tempfile.TemporaryDirectory() as name:
        results = _measure_all(settings, Path(name))
    import tables

    from marssep.evaluate.results import write_text

    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(tables.runtimes(results))


def _measure_all(settings: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from separate_speed import SAMPLE_RATE, made_recording, processor_name

    from marssep.audio import write_audio
    from marssep.evaluate.versions import library_versions
    from marssep.export import ExportSettings, export_model
    from marssep.separate import Separator

    chosen = [name for name in settings.only.split(",") if name in VARIANTS]
    separator = Separator.load(settings.model)
    export_model(
        separator,
        folder / "exported",
        settings=ExportSettings(texts=(TEXT,), text_encoder="onnxruntime-text" in chosen),
    )
    if "onnxruntime-int8" in chosen:
        _quantise(folder / "exported")
    recording = folder / "recording.wav"
    write_audio(recording, made_recording(settings.seconds), sample_rate=SAMPLE_RATE, subtype="PCM_16")
    load = [round(value, 2) for value in os.getloadavg()]
    pairs = [REFERENCE, *((name, n) for name in chosen for n in (1, 2) if (name, n) != REFERENCE)]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {pair: [] for pair in pairs}
    for turn in range(settings.runs):  # in turns, so that a busy minute does not fall on one variant alone
        for pair in pairs:
            runs[pair].append(_child(*pair, model=settings.model, folder=folder))
            print(turn, pair, runs[pair][-1], file=sys.stderr, flush=True)
    reference = np.load(_target(folder, *REFERENCE))
    return {
        "what": f"a made recording of {settings.seconds} s, stereo, 44.1 kHz, by text; medians of fresh processes",
        "runs": settings.runs,
        "model": Path(settings.model).name,
        "model_sha256": separator.model.sha256,
        "rows": [_row(pair, runs[pair], settings.seconds, folder, reference) for pair in pairs],
        "load_before": load,
        "processors_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": processor_name(),
        "versions": library_versions() | _versions("onnxruntime", "onnxscript"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _versions(*names: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in names}


def _row(
    pair: tuple[str, int], runs: list[dict[str, float]], seconds: int, folder: Path, reference: np.ndarray
) -> dict[str, Any]:
    name, threads = pair
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    error = np.load(_target(folder, *pair)) - reference
    snr = None
    if pair != REFERENCE:
        snr = round(10 * float(np.log10(np.square(reference).sum() / max(np.square(error).sum(), 1e-30))), 1)
    return {
        "name": name,
        "what": VARIANTS[name],
        "threads": threads,
        "start_up_seconds": round(middle["start_up"], 3),
        "real_time_factor": round(middle["separate"] / seconds, 5),
        "peak_memory_mb": round(middle["peak_memory_mb"], 1),
        "wall_seconds": round(middle["wall"], 3),
        "snr_db": snr,
        "start_up_seconds_all": [round(run["start_up"], 3) for run in runs],
        "real_time_factor_all": [round(run["separate"] / seconds, 5) for run in runs],
    }


def _target(folder: Path, name: str, threads: int) -> Path:
    return folder / f"{name}-{threads}.npy"


def _child(name: str, threads: int, *, model: str, folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": cache}
        asked = {"name": name, "threads": threads, "model": model, "folder": str(folder), "started": time.time()}
        command = [sys.executable, __file__, "--child", json.dumps(asked)]
        process = subprocess.run(command, check=False, stdout=subprocess.PIPE, env=environment)
    if process.returncode != 0:
        raise SystemExit(f"{name} with {threads} threads failed with exit code {process.returncode}.")
    made: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return made


def _measured(*, name: str, threads: int, model: str, folder: str, started: float) -> dict[str, float]:
    """What a measured process does; its memory is what it says itself, for a parent's figure of it includes its own."""
    separate = _runtime(name, threads, folder) if name.startswith("onnxruntime") else _torch(name, threads, model)
    excerpt = (0.1 * np.random.default_rng(0).standard_normal((2, 5 * 44100))).astype(np.float32)
    separate((excerpt, 44100))
    ready = time.time()
    target = separate(Path(folder, "recording.wav"))
    done = time.time()
    np.save(_target(Path(folder), name, threads), target)
    return {
        "start_up": ready - started,
        "separate": done - ready,
        "wall": done - started,
        "peak_memory_mb": peak_memory_mb(),
    }


def peak_memory_mb() -> float:
    """Of this process, in units of 2^20 bytes; not `marssep.separate`'s, which would load torch here."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _runtime(name: str, threads: int, folder: str) -> Callable[[Any], np.ndarray]:
    from marssep.runtime import Runtime

    place = Path(folder, "exported")
    runtime = Runtime.load(place if name != "onnxruntime-int8" else place.with_name(QUANTISED), threads=threads)
    # The text encoder knows no capitals, so another spelling of the stored query has the same embedding.
    text = TEXT.capitalize() if name == "onnxruntime-text" else TEXT
    return lambda recording: runtime.separate(recording, text=text, gate=False).target


def _quantise(folder: Path) -> None:
    """A copy of the exported folder whose network has 8-bit weights."""
    import hashlib
    import shutil

    from onnxruntime.quantization import QuantType, quantize_dynamic

    place = folder.with_name(QUANTISED)
    shutil.copytree(folder, place)
    quantize_dynamic(folder / "network.onnx", place / "network.onnx", weight_type=QuantType.QUInt8)
    config = json.loads((place / "runtime.json").read_text())
    config["files"]["network"]["sha256"] = hashlib.sha256((place / "network.onnx").read_bytes()).hexdigest()
    (place / "runtime.json").write_text(json.dumps(config))


def _torch(name: str, threads: int, model: str) -> Callable[[Any], np.ndarray]:
    import torch

    from marssep.separate import Separator

    torch.set_num_threads(threads)
    separator = Separator.load(model)
    network: Any = separator.model.network
    if name == "torch-channels-last":
        network = network.to(memory_format=torch.channels_last)
    elif name == "torch-compile":
        network = torch.compile(network)
    elif name == "torch-bf16":
        network = _Bf16(network)
    separator.model = dataclasses.replace(separator.model, network=network)
    return lambda recording: separator.separate(recording, text=TEXT, gate=False).target


class _Bf16:
    def __init__(self, network: Any) -> None:
        self.network = network

    def __call__(self, power: Any, query: Any) -> Any:
        import torch

        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(power, query)

    def parameters(self) -> Any:
        return self.network.parameters()


if __name__ == "__main__":
    main()
