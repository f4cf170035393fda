"""`marssep separate-corpus` against the plain command: throughput, a killed worker, and memory over many files.

    python benchmarks/archive.py [--model NAME|PATH] [--files 200] [--flat 2000] [--output results/archive.json]

Makes an archive of short noises and tones of mixed kinds, with five broken files. Four runs: the archive with two
workers, one of which is killed when a fifth is done; once more, with nothing left to do; undisturbed; and the same
files by `marssep separate --jobs 2`, whose results are compared with the first run's sample by sample. Then many short
files, with the memory of the workers, of the driver and of Ray's own processes watched.
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

import numpy as np
import psutil

from marssep.audio import read_audio, write_audio
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions

KINDS = (
    ("wav", "PCM_16", 44100, 2),
    ("flac", "PCM_24", 48000, 1),
    ("ogg", "VORBIS", 22050, 2),
    ("mp3", None, 44100, 1),
    ("wav", "FLOAT", 16000, 1),
    ("aiff", "PCM_16", 32000, 2),
    ("w64", "PCM_24", 96000, 1),
    ("caf", "PCM_16", 44100, 2),
    ("au", "ULAW", 8000, 1),
)
BROKEN = 5
TEXT = "dog barking"
WARM_UP = 0.2  # share of the files after which memory is judged


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name of a shipped model or a model folder")
    parser.add_argument("--files", type=int, default=200, help="good files of the archive")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a file")
    parser.add_argument(
        "--flat", type=int, default=2000, help="good files of 0.5 s of the memory part; 0 leaves it out"
    )
    parser.add_argument("--output", type=Path, default=Path("results/archive.json"))
    settings = parser.parse_args()
    results = {
        "what": f"{settings.files} good files of {settings.seconds} s in {len(KINDS)} kinds, {BROKEN} broken ones; "
        "2 workers of 1 thread",
        "model": Path(settings.model).name,
        "seed": 0,
        "processors_allowed": len(os.sched_getaffinity(0)),
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder / "in", settings.files, settings.seconds)
        results["one_worker_killed"] = run_archive(
            folder / "in", folder / "ray", settings.model, kill_after=settings.files // 5
        )
        results["second_run"] = run_archive(folder / "in", folder / "ray", settings.model)
        undisturbed = run_archive(folder / "in", folder / "undisturbed", settings.model)
        plain = run_plain(folder / "in", folder / "plain", settings.model)
        results["throughput"] = compare_speed(undisturbed, plain, settings.files * settings.seconds)
        results["same_samples_as_plain"] = compare_sound(folder / "ray", folder / "plain", settings.files)
        if settings.flat:
            make_files(folder / "many", settings.flat, 0.5)
            results["memory"] = run_archive(folder / "many", folder / "flat", settings.model, watch=True)
    results |= {"versions": library_versions(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def make_files(folder: Path, files: int, seconds: float) -> None:
    """Noise behind a tone, in turn of every kind, and five files that are broken in five ways."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(files):
        suffix, subtype, rate, channels = KINDS[number % len(KINDS)]
        time_axis = np.arange(round(rate * seconds)) / rate
        tone = 0.2 * np.sin(2 * np.pi * rng.uniform(200, 2000) * time_axis)
        noise = 0.05 * rng.standard_normal((channels, len(time_axis)))
        path = folder / f"{number:05d}.{suffix}"
        write_audio(path, (tone + noise).astype(np.float32), sample_rate=rate, subtype=subtype)
    (folder / "empty.wav").touch()
    (folder / "letter.flac").write_text("not a sound " * 100)
    (folder / "header.ogg").write_bytes(b"OggS" + bytes(40))
    (folder / "random.mp3").write_bytes(rng.bytes(5000))
    write_audio(folder / "nan.wav", np.full(2000, np.nan, np.float32), sample_rate=16000)


def run_archive(archive: Path, output: Path, model: str, *, kill_after: int = 0, watch: bool = False) -> dict:
    """One run of the command with two workers; a worker is killed once so many files are done, if asked."""
    command = [sys.executable, "-m", "marssep", "separate-corpus", str(archive), str(output)]
    command += ["--text", TEXT, "--model", model, "--workers", "2"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    killed, first, samples, total = False, 0.0, [], len(list(archive.iterdir()))
    while process.poll() is None:
        done = lines(output / "manifest.jsonl")
        first = first or (time.perf_counter() - start if done else 0.0)
        if kill_after and not killed and done >= kill_after:
            last = json.loads((output / "manifest.jsonl").read_text().splitlines()[kill_after - 1])
            worker = int(last["worker"].rpartition(":")[2])
            if psutil.pid_exists(worker):
                psutil.Process(worker).kill()
                killed = True
        if watch and 0 < done < total:
            samples.append((done, time.perf_counter() - start, *memory(process.pid)))
        time.sleep(0.2)
    wall = time.perf_counter() - start
    rows = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    done = [row for row in rows if row["status"] == "done"]
    figures = {
        "wall_seconds": round(wall, 2),
        "seconds_to_the_first_result": round(first, 2),
        "exit_code": process.returncode,
        "said": process.stdout.read().splitlines()[0].removeprefix(f"{output}: "),
        "done": len(done),
        "different_results": len({row["key"] for row in done}),
        "worker_seconds_per_audio_second": round(
            sum(row["took"] for row in done) / sum(row["duration"] for row in done), 4
        ),
        "quarantined": {row["input"]: row["reason"] for row in rows if row["status"] == "quarantined"},
    }
    if kill_after:
        figures |= {"killed_a_worker": killed, "workers": len({row["worker"] for row in rows})}
    if watch:
        figures |= flatness(np.array(samples), len(rows))
    return figures


def flatness(samples: np.ndarray, files: int) -> dict:
    """How memory goes with the number of files done, after a warm-up.

    Args:
        samples: `[n, 5]`, while there is work: files done, seconds, megabytes of driver, workers and the rest of Ray.
        files: in all.
    """
    warm = samples[samples[:, 0] >= WARM_UP * files]
    figures: dict = {"samples": len(samples), "seconds_between_samples": 0.2, "warm_up_files": round(WARM_UP * files)}
    for column, who in ((2, "driver"), (3, "workers"), (4, "rest_of_ray")):
        thousand, values = warm[:, 0] / 1000, warm[:, column]
        slope, base = np.polyfit(thousand, values, 1)
        figures[who] = {
            "mb_per_1000_files": round(float(slope), 2),
            "mb_after_warm_up": round(float(base + slope * thousand[0]), 1),
            "largest_mb": round(float(samples[:, column].max()), 1),
        }
    shown = np.linspace(0, len(samples) - 1, 11).round().astype(int)
    names = ("files_done", "seconds", "driver_mb", "workers_mb", "rest_of_ray_mb")
    figures["course"] = {
        name: [round(float(value), 1) for value in samples[shown, column]] for column, name in enumerate(names)
    }
    return figures


def run_plain(archive: Path, output: Path, model: str) -> float:
    """Seconds of `marssep separate --jobs 2`."""
    command = [sys.executable, "-m", "marssep", "separate", str(archive), "--text", TEXT, "--model", model]
    command += ["--jobs", "2", "--output", str(output)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 1 or f"{BROKEN} of " not in done.stderr:
        raise SystemExit(f"the plain command failed: {done.stderr}")
    return round(time.perf_counter() - start, 2)


def compare_speed(undisturbed: dict, plain: float, seconds: float) -> dict:
    """Both commands in times real time, start of all processes included."""
    return {
        "ray_seconds": undisturbed["wall_seconds"],
        "ray_seconds_to_the_first_result": undisturbed["seconds_to_the_first_result"],
        "plain_seconds": plain,
        "ray_times_real_time": round(seconds / undisturbed["wall_seconds"], 2),
        "plain_times_real_time": round(seconds / plain, 2),
        "ray_over_plain": round(plain / undisturbed["wall_seconds"], 3),
        "worker_seconds_per_audio_second": undisturbed["worker_seconds_per_audio_second"],
    }


def compare_sound(archive: Path, plain: Path, files: int) -> dict:
    """How many results of the archive hold the samples that the plain command's hold."""
    sidecars = {row["fingerprint"]: (path, row) for path, row in map(read, plain.rglob("*.json"))}
    same = 0
    for path, row in map(read, (archive / "results").rglob("*.json")):
        other, other_row = sidecars[row["fingerprint"]]
        same += all(
            np.array_equal(
                read_audio(path.parent / row[part]).waveform, read_audio(other.parent / other_row[part]).waveform
            )
            for part in ("target", "residual")
        )
    return {"same": same, "of": files}


def read(path: Path) -> tuple[Path, dict]:
    """A sidecar."""
    return path, json.loads(path.read_text())


def memory(driver: int) -> tuple[float, float, float]:
    """Resident megabytes of the driver, of the workers and of all other processes that Ray has started."""
    workers = rest = 0.0
    for process in below(driver):
        if "MapWorker" in name_of(process):
            workers += resident(process)
        else:
            rest += resident(process)
    return resident(driver), workers, rest


def below(driver: int) -> list[psutil.Process]:
    """All processes started by a process."""
    try:
        return psutil.Process(driver).children(recursive=True)
    except psutil.Error:
        return []


def name_of(process: psutil.Process) -> str:
    """What Ray calls a process."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def resident(process: psutil.Process | int) -> float:
    """Megabytes; 0 of a process that has ended."""
    try:
        return psutil.Process(getattr(process, "pid", process)).memory_info().rss / 1e6
    except psutil.Error:
        return 0.0


def lines(path: Path) -> int:
    """Lines of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


if __name__ == "__main__":
    main()
