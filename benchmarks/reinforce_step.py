"""Cost of one update of the reinforcement against one of the supervised program on the same batch.

    python benchmarks/reinforce_step.py            # writes results/reinforce-step.json

No corpus is needed: power, targets and queries are random, of the shapes that training has. Every program takes its
steps in a process of its own (for the memory); times are medians of CPU and wall seconds per update.
"""

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = {
    "supervised": ['objective="supervised"', "inner_epochs=1"],
    "direct": ['objective="direct"', "inner_epochs=1"],
    "reinforced, 1 inner epoch": ["inner_epochs=1"],
    "reinforced, 2 inner epochs": ["inner_epochs=2"],
    "reinforced, counterfactual credit": ['advantage.kind="counterfactual"', "advantage.blocks=4", "group_size=4"],
    "reinforced, recogniser": ["reward.weights={recogniser=1.0}"],
}


class Names:
    """Stands for the embeddings of a corpus: every caption has the same place."""

    def text(self, caption):
        import numpy as np

        return np.ones(512, np.float16)


def measure(changes, rounds, threads):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(threads)
    from marssep.corpus.made import make_corpus
    from marssep.corpus.store import Corpus
    from marssep.presets import load_preset
    from marssep.reward.recogniser import Recogniser, RecogniserSettings
    from marssep.reward.student import GridStudent
    from marssep.train.batches import Batch
    from marssep.train.checkpoint import Progress
    from marssep.train.losses import GridTargets
    from marssep.train.reinforce import ReinforceRun, RewardParts

    settings = load_preset("reinforce", ["workers=0", "validation.lists=[]", *changes])
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(shape, generator=generator)

    mixtures, bands, steps = settings.batch_size, 128, 128
    power = rand(mixtures, bands, steps) * 2
    share = rand(mixtures, 2, bands, steps)
    batch = Batch(
        torch.nn.functional.normalize(torch.randn(mixtures, 2, 512, generator=generator), dim=-1),
        GridTargets(
            power,
            share.square() * power[:, None],
            share * power[:, None],
            torch.ones(bands, 1),
            torch.ones(mixtures, 2, dtype=torch.bool),
        ),
        (("dog", "rain"),) * mixtures,
    )
    recogniser = Recogniser.fit(
        rand(3720, bands, steps)[:, :, :32], ["dog", "rain", "cow"] * 1240, RecogniserSettings()
    )
    folder = Path(tempfile.mkdtemp())
    make_corpus(folder)  # a program wants one; nothing is drawn from it here
    parts = RewardParts(GridStudent.load(), recogniser)
    run = ReinforceRun(settings, Corpus.open(folder), Names(), folder / "run", parts)
    run.network.eval()
    updates = settings.inner_epochs
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run._step((batch,), Progress())
    wall, cpu = [], []
    for step in range(rounds):
        started, spent = time.monotonic(), time.process_time()
        run._step((batch,), Progress(step=step))
        wall.append((time.monotonic() - started) / updates)
        cpu.append((time.process_time() - spent) / updates)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FlopCounterMode(display=False) as counter:
        run._step((batch,), Progress())
    return {
        "wall_seconds": round(statistics.median(wall), 4),
        "cpu_seconds": round(statistics.median(cpu), 4),
        "peak_mb": round(peak / 1024),
        "before_first_step_mb": round(base / 1024),
        "gflop": round(counter.get_total_flops() / 1e9 / updates, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "results" / "reinforce-step.json")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.program is not None:
        print(json.dumps(measure(PROGRAMS[arguments.program], arguments.rounds, arguments.threads)))
        return
    rows = {}
    for name in PROGRAMS:
        command = [sys.executable, __file__, "--program", name]
        command += ["--rounds", str(arguments.rounds), "--threads", str(arguments.threads)]
        rows[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows[name]["times_supervised"] = round(rows[name]["wall_seconds"] / rows["supervised"]["wall_seconds"], 2)
        print(name, rows[name], flush=True)
    import torch

    found = {
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "batch": "8 mixtures of 4 s, 2 queries each, 8 masks per query",
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
