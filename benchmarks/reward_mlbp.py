"""Which bilinear pooling makes the best anchor? Ranks, shortcut, starts and losses, on validation mixtures.

    python benchmarks/reward_mlbp.py --corpus DIR [--steps 300] [--output results/reward-mlbp.json]

The embeddings of the shipped last stage are held fixed; only the anchors are trained, each with seed 0. Features and
separations are those of `marssep train align --stage all`, made if they are not cached.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from marssep.corpus.store import Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.model import load_model
from marssep.query import load_encoder
from marssep.reward.anchors import AnchorSettings, BilinearAnchor
from marssep.reward.encoder import RewardEncoder
from marssep.train.progressive import ProgressiveData, anchor_losses
from marssep.train.progressive_data import Draw
from marssep.train.progressive_figures import place_separations, similarities
from marssep.train.progressive_report import figures
from marssep.train.progressive_run import progressive_data
from marssep.train.progressive_settings import ProgressiveSettings

LOSSES = {"ranking": (1.0, 0.0), "InfoNCE": (0.0, 1.0), "both": (1.0, 1.0)}
VARIANTS = [
    *((AnchorSettings(rank=rank), "both") for rank in (16, 64, 256)),
    (AnchorSettings(rank=64), "ranking"),
    (AnchorSettings(rank=64), "InfoNCE"),
    *((AnchorSettings(rank=rank, shortcut=False), "both") for rank in (64, 256, 768)),
    *((AnchorSettings(rank=rank, shortcut=False, start="sound"), "both") for rank in (256, 768)),
    (AnchorSettings(rank=768, shortcut=False, start="sound"), "ranking"),
    (AnchorSettings(rank=768, shortcut=False, start="sound"), "InfoNCE"),
]
PLAIN = ("text", "audio", "mean", "learnable", "max")
FIGURES = ("gap", "relative_gap", "ladder", "disturbed", "explored")
_LEARNING_RATE, _MIXTURES = 3e-3, 24


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("results/reward-mlbp.json"))
    settings = parser.parse_args()
    started, model = time.monotonic(), load_model("small")
    query = load_encoder(model.config.encoder)
    encoder = RewardEncoder.load(encoder=query)
    data = progressive_data(
        Corpus.open(settings.corpus),
        (model, query),
        settings.corpus[0].parent,
        settings=ProgressiveSettings(encoder=encoder.settings),
        report=print,
    )
    rows = [{"anchor": name, **validated(encoder, data, name)} for name in PLAIN]
    with torch.no_grad():
        placed = place_separations(encoder, data.training)
    for shape, losses in VARIANTS:
        encoder.anchors["mlbp"] = train(encoder, data, placed, shape, losses=losses, steps=settings.steps)
        rows.append({"anchor": "mlbp", **shape.model_dump(), "losses": losses, **validated(encoder, data, "mlbp")})
        print(line(rows[-1]), flush=True)
    results = {
        "what": "bilinear pooling as anchor, on validation mixtures: see docs/reward.md",
        "mixtures": {name: len(made.names) for name, made in data.validation.items()},
        "rows": rows,
        "settings": {"steps": settings.steps, "learning_rate": _LEARNING_RATE, "mixtures": _MIXTURES, "seed": 0},
        "reward_encoder": encoder.fingerprint,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print("| anchor | gap | relative gap | ladder | disturbed | explored |\n|---|---|---|---|---|---|")
    print("\n".join(line(row) for row in rows))


def train(
    encoder: RewardEncoder, data: ProgressiveData, placed: Tensor, shape: AnchorSettings, *, losses: str, steps: int
) -> BilinearAnchor:
    """An anchor of a shape, trained on fixed embeddings of training mixtures, every other step with a picture."""
    torch.manual_seed(0)
    anchor, made, chosen = BilinearAnchor(encoder.dimension, shape), data.training, ProgressiveSettings()
    draw = Draw(data.alignment, batch_size=2, noise=chosen.noise, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(anchor.parameters(), _LEARNING_RATE, weight_decay=chosen.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weights = LOSSES[losses]
    for step in range(steps):
        rows = draw.index(len(made.labels), _MIXTURES)
        labels = made.labels[rows]
        text = encoder.place("text", draw.captions(labels))
        picture = encoder.place("image", draw.pictures_of(labels)) if step % 2 else None
        wanted = anchor(placed[rows, 0], text, picture)
        parts = anchor_losses(wanted, placed[rows], made.si_sdr[rows], made=made, settings=chosen)
        optimizer.zero_grad()
        sum(weight * part for weight, part in zip(weights, parts, strict=True)).backward()
        optimizer.step()
        schedule.step()
    return anchor.requires_grad_(False).eval()


def validated(encoder: RewardEncoder, data: ProgressiveData, anchor: str) -> dict[str, float]:
    """Means over the validation lists."""
    found = [
        figures(similarities(encoder, made, data.alignment, anchor=anchor), made) for made in data.validation.values()
    ]
    return {name: round(sum(each[name]["mean"] for each in found) / len(found), 4) for name in FIGURES}


def line(row: dict) -> str:
    """One of a table."""
    name = row["anchor"]
    if name == "mlbp":
        shortcut = "with" if row["shortcut"] else "without"
        name += f", rank {row['rank']}, {shortcut} shortcut, start {row['start']}, {row['losses']}"
    return f"| {name} | " + " | ".join(f"{row[figure]:.3f}" for figure in FIGURES) + " |"


if __name__ == "__main__":
    main()
