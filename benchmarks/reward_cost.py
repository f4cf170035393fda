"""Time and memory of one call of the default reward: 8 candidates of a 4 s mixture.

python benchmarks/reward_cost.py [--threads 1 2] [--output results/reward-cost.json]
"""

import argparse
import json
import os
import resource
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.reward.encoder import RewardEncoder
from marssep.reward.shapes import REWARDS, RewardInputs

RATE, SECONDS, CANDIDATES, REPEATS = 32000, 4.0, 8, 7


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path("results/reward-cost.json"))
    settings = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    encoder = RewardEncoder.load()
    before = peak()
    generator = torch.Generator().manual_seed(0)
    n = int(SECONDS * RATE)
    target, rest = (0.05 * torch.randn(1, n, generator=generator) for _ in range(2))
    estimate = target + 0.3 * torch.rand(CANDIDATES, 1, generator=generator) * rest
    anchors = {
        name: encoder.embed_audio(wave, RATE).expand(CANDIDATES, -1) for name, wave in (("t", target), ("r", rest))
    }
    wide = {"target": target.expand(CANDIDATES, -1), "mixture": (target + rest).expand(CANDIDATES, -1)}

    def inputs(wave: torch.Tensor) -> RewardInputs:
        return RewardInputs(wave, **wide, sample_rate=RATE, anchor=anchors["t"], rest_anchor=anchors["r"])

    rows = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        for name, reward in REWARDS.items():
            plain = measure(lambda reward=reward: value(reward, encoder, inputs(estimate)))
            sloped = measure(lambda reward=reward: slope(reward, encoder, inputs, estimate))
            rows.append({"threads": threads, "reward": name, "forward": plain, "forward_and_backward": sloped})
    results = {
        "what": f"one call for {CANDIDATES} candidates of {SECONDS} s at {RATE} Hz, median of {REPEATS}",
        "calls": rows,
        "peak_megabytes_before": before,
        "peak_megabytes_after": peak(),
        "note": "seconds are wall time, processor_seconds of all threads; load is that of the machine before",
        "load": load,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def value(reward, encoder, inputs):
    """Without a gradient."""
    with torch.no_grad():
        return reward(encoder, inputs)


def slope(reward, encoder, inputs, estimate):
    """With the gradient down to the waveform."""
    wave = estimate.clone().requires_grad_()
    reward(encoder, inputs(wave)).sum().backward()


def measure(call) -> dict[str, float]:
    """Median times after one call to warm up."""
    call()
    walls, processors = [], []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return {
        "wall_seconds": round(statistics.median(walls), 4),
        "wall_seconds_least": round(min(walls), 4),
        "processor_seconds": round(statistics.median(processors), 4),
    }


def peak() -> float:
    """Largest resident memory so far, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
