"""What `Separation.refine` does to the shipped model's separations when a recogniser without a gradient is the reward.

    marssep models fetch judge
    python benchmarks/refining.py --corpus DIR [--mixtures 100]

The recogniser is a forest of decision trees on clean training recordings (`reward/recogniser.py`). Whether its pleasure
means anything is asked of three who had no part: a second forest of other trees and other stretches, the judge (aiSFX)
and SI-SDR. Mixtures whose chosen target has a label that training does not have are left out.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from marssep import Separator
from marssep.corpus.lists import read_list
from marssep.corpus.mixing import render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.judge import load_judge
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import mean_interval, si_sdr_db
from marssep.reward.recogniser import Recogniser, RecogniserSettings
from marssep.separate.refining import RefineSettings
from marssep.spectral import Spectrogram
from marssep.train.recognition import fit_recogniser


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--list", default="open-test")
    parser.add_argument("--mixtures", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("results/refining-default.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    separator, corpus, judge = Separator.load(), Corpus.open(given.corpus), load_judge()
    spectral = separator.model.spectral
    first = fit_recogniser(corpus, spectral.settings)
    second = fit_recogniser(corpus, spectral.settings, settings=RecogniserSettings(seed=1), seed=8)
    rows, settings = [], RefineSettings()
    for index, spec in enumerate(read_list(given.list)[: given.mixtures]):
        chosen = index % len(spec.sources)
        label = spec.sources[chosen].label
        if label not in first.number:
            continue
        rendered = render(spec, corpus)
        made = separator.separate((rendered.mixture[None], CORPUS_RATE), text=spec.queries[chosen].text, gate=False)
        started = time.process_time()
        refined = made.refine(lambda sounds, rate, label=label: says(first, spectral, sounds, rate, label))
        seconds = time.process_time() - started
        target = torch.from_numpy(rendered.sources[chosen])[None]
        row = {"mixture": spec.id, "label": label, "cpu_seconds": seconds}
        for name, each in (("before", made), ("after", refined)):
            heard = judge(torch.cat([torch.from_numpy(each.target), target]), CORPUS_RATE)
            row[name] = {
                "recogniser": float(says(first, spectral, each.target[None], CORPUS_RATE, label)[0]),
                "second_forest": float(says(second, spectral, each.target[None], CORPUS_RATE, label)[0]),
                "judge": float(heard[0] @ heard[1]),
                "si_sdr_db": float(si_sdr_db(torch.from_numpy(each.target), target)[0]),
            }
        rows.append(row)
        print(f"{index + 1}: {label}, {row['before']} -> {row['after']}", flush=True)
    figures = ("recogniser", "second_forest", "judge", "si_sdr_db")
    found = {
        "what": "separations before and after Separation.refine with a recogniser's decision as reward; see benchmarks",
        "list": given.list,
        "n": len(rows),
        "before": {key: round(float(np.mean([row["before"][key] for row in rows])), 4) for key in figures},
        "after": {key: round(float(np.mean([row["after"][key] for row in rows])), 4) for key in figures},
        "difference": {key: difference(rows, key) for key in figures},
        "cpu_seconds": round(float(np.median([row["cpu_seconds"] for row in rows])), 2),
        "settings": settings.model_dump(),
        "model": separator.model.sha256,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(given.output, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def says(recogniser: Recogniser, spectral: Spectrogram, sounds: np.ndarray, rate: int, label: str) -> Tensor:
    """Probability of the label, of sounds `[g, c, n]`."""
    waves = torch.from_numpy(sounds).mean(1)
    power = spectral.to_grid(spectral.stft(waves, rate), rate)
    return recogniser.chance_of(power, torch.full((len(waves),), recogniser.number[label]))


def difference(rows: list[dict], key: str) -> dict[str, float]:
    """Mean of after minus before, with its 95 % interval over mixtures."""
    interval = mean_interval(np.array([row["after"][key] - row["before"][key] for row in rows]))
    return {name: round(getattr(interval, name), 4) for name in ("mean", "low", "high")}


if __name__ == "__main__":
    main()
