"""Does the spread of the Beta policy tell where the mask is wrong? Rank correlations with the error, on validation.

    python benchmarks/uncertainty.py --corpus DIR [--mixtures 200] [--output results/uncertainty.json]

Queries by words. The error of a cell is |mask - ideal ratio mask|; cells more than 60 dB below the mixture's loudest
are left out. Within every query: Spearman's rank correlation over cells, beside that of the mixture's level in the
cell. Between queries: of the mean spread, weighted by power, with SI-SDRi. Intervals draw whole mixtures.
"""

import argparse
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import Interval, mean_interval, si_sdr_db
from marssep.separate import Separator
from marssep.separate.blocks import apply_mask, grid_power
from marssep.separate.chunks import cross_fade, hear
from marssep.separate.doubt import CONCENTRATION, spread

AUDIBLE = 1e-6  # of the loudest cell's power
EDGES = (0.0, 0.09, 0.10, 0.11, 0.12, 0.13, 0.14, 0.5)  # of the spread; its floor at k = 9 is 0.083
RESAMPLES = 2000


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--list", default="open-val")
    parser.add_argument("--mixtures", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path("results/uncertainty.json"))
    settings = parser.parse_args()
    started, separator, corpus = time.monotonic(), Separator.load(settings.model), Corpus.open(settings.corpus)
    specs = read_list(settings.list)[: settings.mixtures]
    rows = [row | {"mixture": spec.id} for spec in specs for row in measure(separator, corpus, spec)]
    clusters = [row["mixture"] for row in rows]
    columns = {key: np.array([row[key] for row in rows]) for key in ("cells", "level", "doubt", "gain")}
    table = np.sum([row["bins"] for row in rows], axis=0)
    results = {
        "what": "spread of the Beta policy against the error of the mask; Spearman's rank correlations",
        "concentration": CONCENTRATION,
        "list": settings.list,
        "queries": len(rows),
        "within_queries": {
            "spread": rounded(mean_interval(columns["cells"], clusters)),
            "level_of_the_mixture": rounded(mean_interval(columns["level"], clusters)),
        },
        "between_queries": between(columns["doubt"], columns["gain"], clusters),
        "by_spread": [
            {
                "from": low,
                "stated": round(float(stated / n), 4),
                "found": round(float(np.sqrt(square / n)), 4),
                "cells": int(n),
            }
            for low, (n, stated, square) in zip(EDGES, table, strict=False)
            if n
        ],
        "model_sha256": separator.model.sha256,
        "seed": 0,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


@torch.inference_mode()
def measure(separator: Separator, corpus: Corpus, spec: MixtureSpec) -> list[dict[str, object]]:
    """A row for every source of a mixture."""
    made, model = render(spec, corpus), separator.model
    mixture = torch.from_numpy(made.mixture)
    power = grid_power(mixture[None], CORPUS_RATE, model.spectral)
    embeddings = separator.encoder.embed_text([query.text for query in spec.queries])
    heard = hear(model.network, power, embeddings, chunk_steps=model.config.chunk_steps)
    audible, rows = (power > AUDIBLE * power.max()).numpy(), []
    for index, source in enumerate(torch.from_numpy(made.sources)):
        mask = cross_fade(torch.sigmoid(heard.logits[:, index]), heard.starts, n_steps=power.shape[-1])
        target, rest = (grid_power(each[None], CORPUS_RATE, model.spectral) for each in (source, mixture - source))
        error = (mask - target / (target + rest).clamp_min(1e-30)).abs().numpy()[audible]
        doubt = spread(mask).numpy()[audible]
        estimate = apply_mask(mixture[None], mask, CORPUS_RATE, model.spectral)[0]
        places = np.digitize(doubt, EDGES[1:-1])
        rows.append(
            {
                "cells": float(spearmanr(doubt, error).statistic),
                "level": float(spearmanr(power.numpy()[audible], error).statistic),
                "doubt": float(np.average(doubt, weights=power.numpy()[audible])),
                "gain": float(si_sdr_db(estimate, source) - si_sdr_db(mixture, source)),
                "bins": np.stack(
                    [
                        np.bincount(places, weights, len(EDGES) - 1)
                        for weights in (np.ones_like(doubt), doubt, np.square(error))
                    ],
                    axis=1,
                ),
            }
        )
    return rows


def between(doubt: np.ndarray, gain: np.ndarray, clusters: list[str]) -> dict[str, float]:
    """Spearman's correlation over queries with an interval that draws mixtures."""
    names = sorted(set(clusters))
    places = {name: np.flatnonzero(np.array(clusters) == name) for name in names}
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = np.concatenate([places[names[k]] for k in rng.integers(len(names), size=len(names))])
        drawn.append(np.corrcoef(rankdata(doubt[rows]), rankdata(gain[rows]))[0, 1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = np.corrcoef(rankdata(doubt), rankdata(gain))[0, 1]
    return {key: round(float(each), 3) for key, each in (("mean", found), ("low", low), ("high", high))}


def rounded(interval: Interval) -> dict[str, float]:
    """An interval in three decimals."""
    return {key: round(value, 3) for key, value in asdict(interval).items()}


if __name__ == "__main__":
    main()
