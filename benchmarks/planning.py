"""What training at the paper's size and a million hours of archive would take, from figures measured on one processor.

    python benchmarks/planning.py [--assume NAME=VALUE ...] [--output results/planning.json] [--page docs/planning.md]

Measures a training step of the `paper` preset's network on one processor and counts its operations; takes the drawing
of mixtures from `results/mixing.json`, the cost of reinforcement from `results/reinforce-step.json` and the speed of
archive workers from `results/archive.json`. Everything else is an assumption and can be changed on the command line.
Stragglers and failures are simulated with fixed seeds.
"""

import argparse
import heapq
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.model import build_network
from marssep.presets import load_preset

PAGE = Path(__file__).with_name("planning_page.md")
GPU_RATES = (100, 300, 3000)  # mixtures per second, beside the rate of the GPU that was measured
WORKERS = (100, 1000, 10_000)
REINFORCED = "reinforced, 1 inner epoch"


@dataclass(frozen=True)
class Assumptions:
    """What was not measured."""

    gpu_price: float = 2.5  # per hour
    core_price: float = 0.04  # per hour
    storage_price: float = 0.02  # per gigabyte and month
    devices: int = 8
    clips: int = 180_000  # of VGGSound that can still be had
    clip_seconds: float = 10.0
    reinforce_steps: int = 20_000
    archive_hours: float = 1e6
    file_hours: float = 1.0
    bytes_per_hour: float = 44_100 * 2 * 2 * 3600  # 16-bit stereo at 44.1 kHz
    jitter: float = 0.05  # standard deviation of the logarithm of a step's or file's time
    slow_share: float = 0.02  # of devices or workers
    slow_factor: float = 1.5
    device_mtbf_hours: float = 5000.0  # between two failures of a device
    worker_mtbf_hours: float = 500.0  # between two failures of a worker, taken back by the provider included
    restart_minutes: float = 10.0
    checkpoint_steps: int = 1000
    repeats: int = 10  # simulated runs
    seed: int = 0


def main() -> None:
    """Measure, extrapolate, simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assume", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the measured figures")
    parser.add_argument("--output", type=Path, default=Path("results/planning.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/planning.md"))
    settings = parser.parse_args()
    assumed = assume(settings.assume)
    measured = measure_step() | read_measured(settings.results)
    results = {
        "measured": measured,
        "assumptions": asdict(assumed),
        "training": plan_training(assumed, measured),
        "archive": plan_archive(assumed, measured),
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    write_text(settings.page, page(results))


def assume(changes: list[str]) -> Assumptions:
    """The defaults with NAME=VALUE applied."""
    kinds = {field.name: type(field.default) for field in fields(Assumptions)}
    values = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in kinds:
            raise SystemExit(f"{name}: no such assumption; known: {', '.join(kinds)}.")
        values[name] = kinds[name](float(value))
    return replace(Assumptions(), **values)


def measure_step(batch: int = 4, repeats: int = 5) -> dict:
    """Seconds and operations per mixture of a training step of the paper's network on one processor, float32."""
    preset = load_preset("paper")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = build_network(preset.model)
    power = torch.rand(batch, preset.model.spectral.n_bands, preset.model.chunk_steps)
    query = torch.nn.functional.normalize(
        torch.randn(batch, preset.queries.per_mixture, network.query_dimension), dim=-1
    )

    def step() -> None:
        network.zero_grad()
        network(power, query).logits.square().mean().backward()

    with FlopCounterMode(display=False) as counter:
        step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gflop_per_mixture": round(counter.get_total_flops() / batch / 1e9, 2),
        "core_seconds_per_mixture": round(statistics.median(times) / batch, 4),
        "batch_size": preset.batch_size,
        "steps": preset.steps,
    }


def read_measured(folder: Path) -> dict:
    """Figures that other benchmarks have written."""
    names = ("speed", "mixing", "reinforce-step", "archive", "device-speed")
    speed, mixing, step, archive, device = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    paper = device["supervised"]["paper, batch 128"]
    return {
        "mixtures_per_second_to_draw": mixing["whole_examples_per_second"]["paper"]["examples_per_second"],
        "reinforced_over_supervised": step["rows"][REINFORCED]["times_supervised"],
        "worker_seconds_per_audio_second": archive["throughput"]["worker_seconds_per_audio_second"],
        "separate_real_time_factor": speed["real_time_factor"],
        "gpu": device["device"],
        "gpu_mixtures_per_second": paper["examples_per_second"],
        "gpu_share_of_peak": paper["share_of_peak"],
        "gpu_numbers_per_second": round(1000 * 128 / paper["parts_ms"]["draw (one worker)"]),
        "gpu_reinforced_over_supervised": device["reinforced"]["batch 128"][REINFORCED]["times_supervised"],
        "dates": {
            "mixing": mixing["date"],
            "reinforce-step": step["date"],
            "archive": archive["date"],
            "device-speed": device["date"],
        },
    }


def plan_training(assumed: Assumptions, measured: dict) -> dict:
    """The supervised stage on processors like the one measured, and on GPUs of several supposed speeds."""
    mixtures = measured["batch_size"] * measured["steps"]
    core_hours = mixtures * measured["core_seconds_per_mixture"] / 3600
    rates = sorted((*GPU_RATES, measured["gpu_mixtures_per_second"]))
    return {
        "mixtures": mixtures,
        "core_days": round(core_hours / 24, 1),
        "core_cost": round(core_hours * assumed.core_price),
        "corpus_gb": round(assumed.clips * assumed.clip_seconds * 16_000 * 2 / 1e9, 1),
        "reinforce_share": round(
            assumed.reinforce_steps / measured["steps"] * measured["reinforced_over_supervised"], 3
        ),
        "one_gpu_hours": round(mixtures / measured["gpu_mixtures_per_second"] / 3600, 2),
        "by_rate": [plan_devices(assumed, measured, rate) for rate in rates],
    }


def plan_devices(assumed: Assumptions, measured: dict, rate: float) -> dict:
    """Time and cost if a GPU takes `rate` mixtures per second."""
    step_seconds = measured["batch_size"] / assumed.devices / rate
    simulated = repeated(assumed, lambda seed: simulate_training(assumed, step_seconds, measured["steps"], seed=seed))
    return {
        "mixtures_per_second_of_a_gpu": rate,
        "tflop_per_second_it_takes": round(rate * measured["gflop_per_mixture"] / 1e3, 1),
        "ideal_hours": round(step_seconds * measured["steps"] / 3600, 2),
        **simulated,
        "cost": round(simulated["hours"] * assumed.devices * assumed.gpu_price),
        "cores_to_draw_mixtures": round(rate * assumed.devices / measured["mixtures_per_second_to_draw"], 1),
    }


def plan_archive(assumed: Assumptions, measured: dict) -> dict:
    """Time, storage and cost of an archive, on workers of one core like the one measured."""
    factor = measured["worker_seconds_per_audio_second"]
    core_hours = assumed.archive_hours * factor
    terabytes = assumed.archive_hours * assumed.bytes_per_hour / 1e12
    return {
        "core_hours": round(core_hours),
        "core_cost": round(core_hours * assumed.core_price),
        "input_tb": round(terabytes),
        "target_tb": round(terabytes),
        "target_and_residual_tb": round(2 * terabytes),
        "target_tb_if_lossy": round(2 * terabytes),
        "storage_per_month": round(3 * terabytes * 1000 * assumed.storage_price),
        "by_workers": [plan_workers(assumed, factor, workers, terabytes) for workers in WORKERS],
    }


def plan_workers(assumed: Assumptions, factor: float, workers: int, terabytes: float) -> dict:
    """Time, cost and disk speed with so many workers."""
    simulated = repeated(assumed, lambda seed: simulate_archive(assumed, factor, workers, seed=seed))
    return {
        "workers": workers,
        "ideal_hours": round(assumed.archive_hours * factor / workers, 2),
        **simulated,
        "cost": round(simulated["hours"] * workers * assumed.core_price),
        "read_gb_per_second": round(terabytes * 1e3 / (simulated["hours"] * 3600), 2),
    }


def repeated(assumed: Assumptions, simulate: Callable[[int], float]) -> dict:
    """Mean, shortest and longest of simulated runs."""
    hours = [simulate(assumed.seed + number) for number in range(assumed.repeats)]
    return {"hours": round(statistics.mean(hours), 2), "hours_range": [round(min(hours), 2), round(max(hours), 2)]}


def simulate_training(assumed: Assumptions, step_seconds: float, steps: int, *, seed: int) -> float:
    """Hours of a synchronous run: a step lasts as long as its slowest device, a failure goes back to a checkpoint."""
    rng = np.random.default_rng(seed)
    devices = assumed.devices
    between = assumed.device_mtbf_hours * 3600 / devices
    if step_seconds * assumed.checkpoint_steps > 5 * between:
        raise SystemExit("Devices fail before they reach a checkpoint; assume a larger device_mtbf_hours.")
    slow = np.where(rng.random(devices) < assumed.slow_share, assumed.slow_factor, 1.0)
    seconds, done = 0.0, 0
    next_failure = rng.exponential(between)
    while done < steps:
        count = min(assumed.checkpoint_steps, steps - done)
        factors = np.exp(assumed.jitter * rng.standard_normal((count, devices))) * slow
        took = step_seconds * float(factors.max(1).sum())
        if seconds + took > next_failure:
            seconds = next_failure + 60 * assumed.restart_minutes
            next_failure = seconds + rng.exponential(between)
            continue
        seconds, done = seconds + took, done + count
    return seconds / 3600


def simulate_archive(assumed: Assumptions, factor: float, workers: int, *, seed: int) -> float:
    """Hours until the last file is done: the next free worker takes the next file; one that fails loses its file.

    Args:
        assumed: what may happen.
        factor: hours of a worker for an hour of audio.
        workers: how many.
        seed: of what happens.
    """
    rng = np.random.default_rng(seed)
    if assumed.file_hours * factor > 5 * assumed.worker_mtbf_hours:
        raise SystemExit("Workers fail before a file is done; assume a larger worker_mtbf_hours or smaller file_hours.")
    slow = np.where(rng.random(workers) < assumed.slow_share, assumed.slow_factor, 1.0).tolist()
    failures = rng.exponential(assumed.worker_mtbf_hours, workers).tolist()
    files = round(assumed.archive_hours / assumed.file_hours)
    lengths = assumed.file_hours * factor * np.exp(assumed.jitter * rng.standard_normal(files))
    fresh, lost = iter(lengths.tolist()), []  # lost: when it was noticed, and the length
    free = [(0.0, worker) for worker in range(workers)]
    left, last = files, 0.0
    while left:
        now, worker = heapq.heappop(free)
        length = None if lost and lost[0][0] <= now else next(fresh, None)
        if length is None:
            noticed, length = heapq.heappop(lost)
            now = max(now, noticed)
        end = now + length * slow[worker]
        if end > failures[worker]:
            died = max(now, failures[worker])
            heapq.heappush(lost, (died, length))
            end = died + assumed.restart_minutes / 60
            failures[worker] = end + rng.exponential(assumed.worker_mtbf_hours)
        else:
            left, last = left - 1, max(last, end)
        heapq.heappush(free, (end, worker))
    return last


def page(results: dict) -> str:
    """The planning page."""
    measured, training, archive = results["measured"], results["training"], results["archive"]
    assumed = results["assumptions"]
    devices = "\n".join(
        f"| {row['mixtures_per_second_of_a_gpu']:,}{measured_mark(row, measured)} | "
        f"{row['tflop_per_second_it_takes']:,} | {row['ideal_hours']:,} | "
        f"{hours(row)} | {row['cost']:,} | {row['cores_to_draw_mixtures']:,} |"
        for row in training["by_rate"]
    )
    workers = "\n".join(
        f"| {row['workers']:,} | {row['ideal_hours']:,} | {hours(row)} | {row['cost']:,} | "
        f"{row['read_gb_per_second']:,} |"
        for row in archive["by_workers"]
    )
    assumptions = "\n".join(f"| `{name}` | {value:,} |" for name, value in assumed.items())
    return PAGE.read_text(encoding="utf-8").format(
        date=results["date"][:10],
        measured=measured,
        training=training,
        archive=archive,
        assumed=assumed,
        devices=devices,
        workers=workers,
        assumptions=assumptions,
    )


def measured_mark(row: dict, measured: dict) -> str:
    """Says which row is no supposition."""
    return " (measured)" if row["mixtures_per_second_of_a_gpu"] == measured["gpu_mixtures_per_second"] else ""


def hours(row: dict) -> str:
    """Mean and range."""
    low, high = row["hours_range"]
    return f"{row['hours']:,} ({low:,} to {high:,})"


if __name__ == "__main__":
    main()
