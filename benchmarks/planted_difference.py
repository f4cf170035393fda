"""How often the intervals find a planted difference between two systems, and how often they find one that is not there.

    python benchmarks/planted_difference.py [--repetitions 200] [--output results/planted-difference.json]

Two systems are scored on the same 500 items. What an item is worth to both varies as SI-SDRi does between the items of
a committed result; the systems differ on each item by the planted mean and a spread of their own. Every repetition
draws all of it anew, so the figures are rates and not one lucky draw.
"""

import argparse
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import paired_difference, share_interval, unpaired_difference

ITEMS = 500
ITEM_SPREAD_DB = 6.0
"""Of SI-SDRi between items; `spread_in` recomputes what a results file says."""
SYSTEM_SPREAD_DB = 1.5
"""Of the difference of two close systems between items; text against composed queries of one model have 1.3 dB."""
PLANTED_DB = (0.0, 0.1, 0.2, 0.4)
SEED = 0


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--spread-of", type=Path, default=Path("results/open-test.json"))
    parser.add_argument("--output", type=Path, default=Path("results/planted-difference.json"))
    settings = parser.parse_args()
    started = time.monotonic()
    results = {
        "what": "share of repetitions whose 95 % interval of the difference excludes zero",
        "items": ITEMS,
        "item_spread_db": ITEM_SPREAD_DB,
        "system_spread_db": SYSTEM_SPREAD_DB,
        "spread_found": spread_in(settings.spread_of),
        "repetitions": settings.repetitions,
        "resamples": settings.resamples,
        "rows": [rates(planted, settings.repetitions, resamples=settings.resamples) for planted in PLANTED_DB],
        "seed": SEED,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["rows"], indent=1))


def spread_in(path: Path) -> dict[str, object]:
    """Standard deviations between mixtures that the intervals of a results file imply."""
    found = json.loads(path.read_text(encoding="utf-8"))
    model = [row for row in found["systems"] if (row["system"], row["group"]) == ("model", "all")]
    spread = {str(row["modality"]): deviation(row["si_sdr_improvement_db"]) for row in model}
    paired = {f"{row['modality']} - {row['baseline']}": deviation(row["difference_db"]) for row in found["paired"]}
    return {"file": path.name, "between_mixtures_db": spread, "of_differences_db": paired}


def deviation(figure: dict[str, float]) -> float:
    """Of the mixtures' means, from the width of a 95 % interval of their mean."""
    return round((figure["high"] - figure["low"]) / (2 * 1.96) * math.sqrt(figure["n_mixtures"]), 2)


def rates(planted_db: float, repetitions: int, *, resamples: int) -> dict[str, object]:
    """Detection rates of both intervals; of a planted zero they are the rates of false alarm."""
    found: dict[str, list[bool]] = {"paired": [], "unpaired": []}
    for repetition in range(repetitions):
        first, second = draw(planted_db, seed=repetition)
        for name, interval in (("paired", paired_difference), ("unpaired", unpaired_difference)):
            made = interval(first, second, resamples=resamples, seed=repetition)
            found[name].append(made.excludes_zero())
    row: dict[str, object] = {"planted_db": planted_db}
    for name, answers in found.items():
        share = share_interval(answers)
        row[name] = {"detected": share.mean, "low": round(share.low, 4), "high": round(share.high, 4)}
    return row


def draw(planted_db: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two systems on the same items."""
    generator = np.random.default_rng([SEED, seed])
    item = ITEM_SPREAD_DB * generator.standard_normal(ITEMS)
    apart = planted_db + SYSTEM_SPREAD_DB * generator.standard_normal(ITEMS)
    return 5.0 + item + apart / 2.0, 5.0 + item - apart / 2.0


if __name__ == "__main__":
    main()
