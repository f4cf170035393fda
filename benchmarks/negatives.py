"""Where should a sound to remove work: on the query's embedding, or on the mask's logits? Paired, on validation.

    python benchmarks/negatives.py --corpus DIR [--mixtures 250] [--output results/negatives.json]

Every source of every mixture is asked for by words, with another source of the mixture as the negative (`rival`) and
with a sound that is not in it (`stranger`), which should change nothing. Lists: `open-val` and `esc10-val`, and as many
mixtures of three and four validation recordings, drawn here.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixingSettings, MixtureSampler, MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import Interval, mean_interval, paired_difference, si_sdr_db
from marssep.query import negate
from marssep.separate import Separator
from marssep.separate.blocks import apply_mask, grid_power
from marssep.separate.chunks import OTHERS, cross_fade, hear

LISTS = ("open-val", "esc10-val")
DRAWN = {"open-val-3": (3, 103), "open-val-4": (4, 104)}  # sources, seed
STRENGTHS = (0.25, 0.5, 1.0)
ODDS = (0.1, 0.25, OTHERS, 1.0)
NONE, SHIPPED = "none", {"embedding": "embedding 0.5", "logits": f"logits {OTHERS:g}"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--mixtures", type=int, default=250, help="of each list")
    parser.add_argument("--lists", nargs="+", default=[*LISTS, *DRAWN])
    parser.add_argument("--output", type=Path, default=Path("results/negatives.json"))
    settings = parser.parse_args()
    started, separator, corpus = time.monotonic(), Separator.load(settings.model), Corpus.open(settings.corpus)
    rows = {name: measure(separator, corpus, mixtures(name, corpus, settings.mixtures)) for name in settings.lists}
    results = {
        "what": "SI-SDRi in dB by words with a negative; intervals draw whole mixtures; differences are paired",
        "lists": rows,
        "drawn": {name: {"sources": n, "seed": seed} for name, (n, seed) in DRAWN.items() if name in rows},
        "default": choose(rows),
        "model": separator.name,
        "model_sha256": separator.model.sha256,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(markdown(results))


def mixtures(name: str, corpus: Corpus, limit: int) -> list[MixtureSpec]:
    """A committed list, or one drawn from the validation split as that was."""
    if name not in DRAWN:
        return read_list(name)[:limit]
    n_sources, seed = DRAWN[name]
    mixing = MixingSettings(background=0.0)
    sampler = MixtureSampler(
        corpus, split="val", picture_split="val", settings=mixing, duration=read_list("open-val")[0].duration, seed=seed
    )
    return [sampler.draw(index, n_sources=n_sources) for index in range(limit)]


def measure(separator: Separator, corpus: Corpus, specs: list[MixtureSpec]) -> dict[str, object]:
    """Means of every form, and its paired differences to no negative and between the two that are offered."""
    scores: dict[str, dict[str, list[float]]] = {"rival": {}, "stranger": {}}
    clusters: dict[str, list[str]] = {"rival": [], "stranger": []}
    for spec in specs:
        for negative, gains in scored(separator, corpus, spec):
            clusters[negative].append(spec.id)
            for form, gain in gains.items():
                scores[negative].setdefault(form, []).append(gain)
    made: dict[str, object] = {}
    for negative, forms in scores.items():
        mixture = clusters[negative]
        made[negative] = {
            form: {
                "si_sdr_improvement_db": rounded(mean_interval(gains, mixture)),
                "minus_none_db": rounded(paired_difference(gains, forms[NONE], mixture)),
            }
            for form, gains in forms.items()
        }
        first, second = (forms[SHIPPED[form]] for form in ("logits", "embedding"))
        made[f"{negative}: logits minus embedding"] = rounded(paired_difference(first, second, mixture))
    return made


@torch.inference_mode()
def scored(separator: Separator, corpus: Corpus, spec: MixtureSpec) -> Iterator[tuple[str, dict[str, float]]]:
    """SI-SDRi of every form, for every source of a mixture and each kind of negative."""
    made = render(spec, corpus)
    mixture, sources = torch.from_numpy(made.mixture), torch.from_numpy(made.sources)
    queries = [query.text for query in spec.queries]
    embeddings = separator.encoder.embed_text([*queries, *([spec.absent.text] if spec.absent else [])])
    pairs = [("rival", index, (index + 1) % len(queries)) for index in range(len(queries))]
    pairs += [("stranger", index, len(queries)) for index in range(len(queries)) if spec.absent]
    moved = [
        F.normalize(negate(embeddings[own], embeddings[other], strength), dim=-1)
        for _, own, other in pairs
        for strength in STRENGTHS
    ]
    model = separator.model
    power = grid_power(mixture[None], CORPUS_RATE, model.spectral)
    heard = hear(
        model.network, power, torch.cat([embeddings, torch.stack(moved)]), chunk_steps=model.config.chunk_steps
    )

    def gain(logits: torch.Tensor, source: torch.Tensor) -> float:
        mask = cross_fade(torch.sigmoid(logits), heard.starts, n_steps=power.shape[-1])
        estimate = apply_mask(mixture[None], mask, CORPUS_RATE, model.spectral)[0]
        return float(si_sdr_db(estimate, source) - si_sdr_db(mixture, source))

    for number, (negative, own, other) in enumerate(pairs):
        target, rival, source = heard.logits[:, own], heard.logits[:, other], sources[own]
        gains = {NONE: gain(target, source)}
        for place, strength in enumerate(STRENGTHS, start=len(embeddings) + number * len(STRENGTHS)):
            gains[f"embedding {strength:g}"] = gain(heard.logits[:, place], source)
        for odds in ODDS:
            others = torch.full_like(target, float(np.log(odds)))
            gains[f"logits {odds:g}"] = gain(target - torch.logaddexp(rival, others), source)
        yield negative, gains


def choose(rows: Mapping[str, Mapping[str, object]]) -> str:
    """The form that is offered with the higher mean over the lists, each counting the same."""
    means = {
        place: np.mean([row["rival"][form]["si_sdr_improvement_db"]["mean"] for row in rows.values()])
        for place, form in SHIPPED.items()
    }
    return max(means, key=lambda place: means[place])


def rounded(interval: Interval) -> dict[str, float]:
    """An interval in three decimals."""
    return {key: round(value, 3) for key, value in asdict(interval).items()}


def markdown(results: Mapping[str, object]) -> str:
    """The differences to no negative as tables."""
    lines = []
    for negative in ("rival", "stranger"):
        lists = results["lists"]
        forms = next(iter(lists.values()))[negative]
        lines += [f"| {negative} | " + " | ".join(lists) + " |", "|---" * (len(lists) + 1) + "|"]
        for form in forms:
            cells = []
            for row in lists.values():
                mean, less = (row[negative][form][key] for key in ("si_sdr_improvement_db", "minus_none_db"))
                change = "" if form == NONE else f" ({less['mean']:+.2f} [{less['low']:+.2f}, {less['high']:+.2f}])"
                cells.append(f"{mean['mean']:.2f}{change}")
            lines.append(f"| {form} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, f"default: {results['default']}"])


if __name__ == "__main__":
    main()
