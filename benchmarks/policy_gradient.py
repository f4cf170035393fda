"""Does the policy gradient point where the exact gradient does? Cosine in parameter space, by exploration and group.

    python benchmarks/policy_gradient.py --corpus DIR     # writes results/policy-gradient.json

The network is the shipped one; every batch has 8 training mixtures with two queries each; nothing is updated.
"""

import argparse
import datetime
import json
import platform
import statistics
import tempfile
from pathlib import Path

import torch

from marssep.corpus.store import Corpus
from marssep.model import load_model
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.reward.student import GridStudent
from marssep.train.checkpoint import Progress
from marssep.train.reinforce import ReinforceRun, RewardParts

REWARDS = ("cosine", "si_sdr")
KINDS = {
    "independent": ('exploration.kind="independent"',),
    "low rank": ('exploration.kind="low_rank"',),
    "16 x 16 blocks": ("exploration.blocks=16",),
    "8 x 8 blocks": ("exploration.blocks=8",),
    "4 x 4 blocks": ("exploration.blocks=4",),
}
GROUPS = (8, 32)
FIXED = ("workers=0", "validation.lists=[]", "inner_epochs=1", "anchor_weight=0.0", 'precision="no"')


class Gradient(ReinforceRun):
    """A run that keeps its gradient instead of taking a step."""

    def _update(self, loss):
        loss.backward()
        parts = [each.grad.flatten() for each in self.network.parameters() if each.grad is not None]
        self.found = torch.cat(parts)
        return torch.zeros(())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent.parent / "results" / "policy-gradient.json"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus, start = Corpus.open([arguments.corpus]), load_model("small")
    bank = EmbeddingBank.build(corpus, load_encoder(start.config.encoder), arguments.corpus.parent / ".features")
    student, folder = GridStudent.load(), Path(tempfile.mkdtemp())

    def run(*changes):
        made = Gradient(
            load_preset("reinforce", [*FIXED, *changes]), corpus, bank, folder, RewardParts(student=student)
        )
        made.network.eval()
        return made

    batches = [run().batches[number] for number in range(arguments.batches)]

    def gradients(*changes):
        found = []
        for number, batch in enumerate(batches):
            made = run(*changes)
            made._step((batch,), Progress(step=number))
            found.append(made.found)
        return found

    rows = []
    for reward in REWARDS:
        weights = f"reward.weights={{{reward}=1.0}}"
        exact = gradients('objective="direct"', weights)
        for kind, changes in KINDS.items():
            for group in GROUPS:
                for weighted in (True, False):
                    extra = (f"group_size={group}", f"surrogate.energy_weight={str(weighted).lower()}")
                    tried = gradients(weights, *changes, *extra)
                    cosines = [float(torch.cosine_similarity(*pair, dim=0)) for pair in zip(tried, exact, strict=True)]
                    rows.append(
                        {
                            "reward": reward,
                            "exploration": kind,
                            "group_size": group,
                            "energy_weight": weighted,
                            "cosine": round(statistics.mean(cosines), 3),
                            "by_batch": [round(each, 3) for each in cosines],
                        }
                    )
                    print(rows[-1], flush=True)
    found = {
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": start.sha256,
        "batches": arguments.batches,
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
