"""Real-time factor and peak memory of `marssep separate` on a made 60 s stereo file at 44.1 kHz, model load included.

    python benchmarks/separate_speed.py [--model NAME|PATH] [--runs 5] [--output results/speed.json]

Every run is a fresh process, as a user's is; peak memory is what that process says of itself.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from marssep.audio import write_audio
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.separate.measuring import measure_command

SAMPLE_RATE = 44100


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name of a shipped model or a model folder")
    parser.add_argument("--text", default="dog barking", help="query")
    parser.add_argument("--seconds", type=int, default=60, help="length of the file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("results/speed.json"))
    settings = parser.parse_args()
    load = [round(value, 2) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "recording.wav")
        write_audio(recording, made_recording(settings.seconds), sample_rate=SAMPLE_RATE, subtype="PCM_16")
        command = ["separate", str(recording), "--text", settings.text, "--model", settings.model]
        runs = [measure_command([*command, "--output", str(Path(folder, "out"))]) for _ in range(settings.runs)]
    wall = [run.wall_seconds for run in runs]
    results = {
        "what": f"marssep separate, {settings.seconds} s stereo 44.1 kHz, process start and model load included",
        "model": Path(settings.model).name,
        "real_time_factor": round(statistics.median(wall) / settings.seconds, 4),
        "wall_seconds_median": round(statistics.median(wall), 3),
        "wall_seconds": [round(value, 3) for value in wall],
        "processor_seconds_median": round(statistics.median(run.processor_seconds for run in runs), 3),
        "peak_memory_mb": round(max(run.peak_memory_mb for run in runs), 1),
        "processors_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "processor": processor_name(),
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def made_recording(seconds: int) -> np.ndarray:
    """Stereo: a gliding tone to the left, bursts of noise to the right, so that no part of it is silent or easy."""
    rng = np.random.default_rng(0)
    time_axis = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.2 * np.sin(2 * np.pi * (300 + 20 * np.sin(time_axis)) * time_axis)
    noise = 0.1 * rng.standard_normal(len(time_axis)) * (np.sin(2 * np.pi * 1.5 * time_axis) > 0)
    return np.stack([tone + 0.3 * noise, 0.3 * tone + noise]).astype(np.float32)


def processor_name() -> str:
    """Model name of the processor where the system says it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
