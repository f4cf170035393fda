"""Speed of the programs on the device at hand: examples a second, where a step's time goes, and the share of the peak.

    python benchmarks/device_speed.py            # writes results/device-speed.json

The corpus is the synthetic one and all embeddings are one vector: what is timed does not depend on them. Mixtures are
drawn by workers and rendered on the device. Times are medians over steps, in milliseconds; the peak is the rate of a
large bfloat16 matrix product on random data, measured in the same run.
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from mixing import Vectors  # the benchmark beside this one
from torch.utils.flop_counter import FlopCounterMode

from marssep.corpus.made import make_corpus
from marssep.corpus.store import Corpus
from marssep.model import ModelConfig, build_network, save_model
from marssep.presets import load_preset
from marssep.reward.student import GridStudent
from marssep.train.checkpoint import Progress
from marssep.train.device_batches import DrawnBatches
from marssep.train.losses import supervised_loss
from marssep.train.reinforce import ReinforceRun, RewardParts
from marssep.train.supervised import SupervisedRun

QUIET = ("workers=0", "validation.lists=[]", 'mixing_on="device"')
SUPERVISED = {
    "default, batch 16": ("default", ()),
    "default, batch 128": ("default", ("batch_size=128",)),
    "film_unet of 9.3 M on 256 rows, batch 64": ("large", ("batch_size=64",)),
    "paper, batch 128": ("paper", ()),
}
REINFORCED = {
    "supervised": ('objective="supervised"', "inner_epochs=1"),
    "direct": ('objective="direct"', "inner_epochs=1"),
    "reinforced, 1 inner epoch": ("inner_epochs=1",),
    "reinforced, 2 inner epochs": ("inner_epochs=2",),
}


class Clock:
    """Times of named parts of a step, each waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.spent = device, {}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, name, action):
        self.wait()
        started = time.perf_counter()
        result = action()
        self.wait()
        self.spent.setdefault(name, []).append(1000 * (time.perf_counter() - started))
        return result

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(times), 2) for name, times in self.spent.items()}


def peak_tflops(device: torch.device) -> float:
    """Of a bfloat16 matrix product, TFLOP/s."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    clock = Clock(device)
    for _ in range(8):
        clock.time("product", lambda: left @ right)
    return 2 * size**3 / (statistics.median(clock.spent["product"]) / 1000) / 1e12


def supervised(folder: Path, corpus: Corpus, name: str, rounds: int, peak: float) -> dict[str, object]:
    """Parts of a step, and whole steps as training takes them."""
    preset, changes = SUPERVISED[name]
    settings = load_preset(preset, [*QUIET, *changes])
    bank = Vectors(settings.model.query_dimension)
    run = SupervisedRun(settings, corpus, bank, folder / "run")
    run.network.train()
    device, drawn = run.world.device, run.batches
    assert isinstance(drawn, DrawnBatches)
    numbers = [drawn[index] for index in range(2)]
    batch = run._batch(numbers[0])
    for _ in range(3):
        run._step((batch,), Progress())

    def forward():
        with run.world.autocast():
            output = run.network(batch.targets.power, batch.query)
        return supervised_loss(output, batch.targets, settings.loss).loss

    def update():
        run.accelerator.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimiser.step()
        run.optimiser.zero_grad(set_to_none=True)
        run.average.update_parameters(run.network)

    parts = Clock(device)
    for index in range(rounds):
        parts.time("draw (one worker)", lambda index=index: drawn[index])
        parts.time("mix", lambda index=index: run._batch(numbers[index % 2]))

        parts.time("backward", parts.time("forward and loss", forward).backward)

        parts.time("update and average", update)
    whole = Clock(device)
    steps = 10

    def train():
        for index in range(steps):
            run._step((run._batch(numbers[index % 2]),), Progress())

    for _ in range(3):
        whole.time("steps", train)
    step_ms = whole.medians()["steps"] / steps
    with FlopCounterMode(display=False) as counter:
        forward().backward()
    run.optimiser.zero_grad()
    tflops = counter.get_total_flops() / 1e12 / (step_ms / 1000)
    figures = {
        "parameters": sum(p.numel() for p in run.network.parameters()),
        "step_ms": round(step_ms, 2),
        "examples_per_second": round(1000 * settings.batch_size / step_ms, 1),
        "tflop_per_step": round(counter.get_total_flops() / 1e12, 3),
        "tflops": round(tflops, 2),
        "share_of_peak": round(tflops / peak, 4),
        "parts_ms": parts.medians(),
    }
    if device.type == "cuda":
        figures["peak_memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
        torch.cuda.reset_peak_memory_stats(device)
    return figures


def reinforced(folder: Path, corpus: Corpus, batch_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds an update of the reinforcement and of its controls."""
    config = ModelConfig()
    torch.manual_seed(0)
    save_model(folder / "start", build_network(config), config, card={})
    rows: dict[str, dict[str, float]] = {}
    for name, changes in REINFORCED.items():
        more = [*QUIET, f"batch_size={batch_size}", f'start="{folder / "start"}"', *changes]
        settings = load_preset("reinforce", more)
        bank = Vectors(config.query_dimension)
        run = ReinforceRun(settings, corpus, bank, folder / "run", RewardParts(GridStudent.load()))
        run.network.eval()
        batch = run._batch(run.batches[0])
        run._step((batch,), Progress())
        clock = Clock(run.world.device)
        for step in range(rounds):
            clock.time("step", lambda run=run, batch=batch, step=step: run._step((batch,), Progress(step=step)))
        per_update = clock.medians()["step"] / settings.inner_epochs
        rows[name] = {"update_ms": round(per_update, 2)}
        rows[name]["times_supervised"] = round(per_update / rows["supervised"]["update_ms"], 2)
        rows[name]["examples_per_second"] = round(1000 * batch_size / (per_update * settings.inner_epochs), 1)
        if run.world.device.type == "cuda":
            rows[name]["peak_memory_gb"] = round(torch.cuda.max_memory_allocated(run.world.device) / 1e9, 2)
            torch.cuda.reset_peak_memory_stats(run.world.device)
        print(batch_size, name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", action="append", choices=[*SUPERVISED, "reinforced"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "results" / "device-speed.json")
    arguments = parser.parse_args()
    wanted = arguments.only or [*SUPERVISED, "reinforced"]
    folder = Path(tempfile.mkdtemp())
    make_corpus(folder / "made")
    corpus = Corpus.open(folder / "made")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = peak_tflops(device)
    found: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": {"torch": torch.__version__},
        "rounds": arguments.rounds,
        "peak_tflops": round(peak, 1),
        "supervised": {},
        "reinforced": {},
    }
    for name in SUPERVISED:
        if name in wanted:
            try:
                found["supervised"][name] = supervised(folder, corpus, name, arguments.rounds, peak)
            except torch.OutOfMemoryError as error:
                found["supervised"][name] = {"error": str(error).split(".")[0]}
            print(name, found["supervised"][name], flush=True)
    if "reinforced" in wanted:
        for batch_size in (8, 128):
            found["reinforced"][f"batch {batch_size}"] = reinforced(folder, corpus, batch_size, arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
