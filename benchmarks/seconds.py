"""Confidence second by second: fitted on validation scenes, judged on test scenes.

    python benchmarks/seconds.py --corpus DIR [--scenes 42] [--output results/presence-seconds.json] [--write]

A scene is six mixtures of a committed list in a row (24 s), so sounds come and go at known times. In each, one source
of every mixture is asked for, and the absent sounds of the mixtures, by every kind of query. A second counts as present
if the sound is within 30 dB of the recording and within 40 dB of its own loudest second there. Present seconds weigh
one half, seconds of absent sounds a quarter, and seconds in which a sound of the scene pauses a quarter.

`--write` puts the constants that were fitted by words into the model's config.json, which is loaded with the weights.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, QuerySpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.presence_record import area
from marssep.evaluate.report.counting import N_BINS, Draws
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.query import Query
from marssep.separate import Separator
from marssep.separate.asked import Asked
from marssep.separate.sources import ArraySource
from marssep.separate.streaming import Stream

KINDS = ("text", "audio", "image", "composed")
PER_SCENE = 6
AUDIBLE_DB, ACTIVE_DB = -30.0, -40.0
NAMES = ("bias", "network", "share", "match")


@dataclass(frozen=True)
class Seconds:
    """All seconds of all scenes for one kind of query.

    Attributes:
        evidence: columns `network`, `share`, `match`.
        present: whether the sound is audible.
        paused: whether it is not, but is elsewhere in the scene.
        scene: number of the scene.
        queries: present and absent queries.
    """

    evidence: np.ndarray
    present: np.ndarray
    paused: np.ndarray
    scene: np.ndarray
    queries: tuple[int, int]

    @property
    def weight(self) -> np.ndarray:
        """Of every second: see the top of this file; sums to one."""
        absent = ~self.present & ~self.paused
        kinds = ((self.present, 0.5), (self.paused, 0.25), (absent, 0.25))
        total = sum(share * rows / max(1, rows.sum()) for rows, share in kinds)
        return total / total.sum()


def main() -> None:
    """Measure, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="folder; by default the shipped one")
    parser.add_argument("--scenes", type=int, default=42, help="of either list at most")
    parser.add_argument("--lists", nargs=2, default=["open-val", "open-test"], help="to fit on, to judge on")
    parser.add_argument("--output", type=Path, default=Path("results/presence-seconds.json"))
    parser.add_argument("--write", action="store_true", help="write the constants into the model's config")
    settings = parser.parse_args()
    started, separator, corpus = time.monotonic(), Separator.load(settings.model), Corpus.open(settings.corpus)
    fitting = gather(separator, corpus, read_list(settings.lists[0]), settings.scenes, kinds=("text",))
    judging = gather(separator, corpus, read_list(settings.lists[1]), settings.scenes, kinds=KINDS)
    constants = fit(fitting["text"])
    network_only = fit(Seconds(**{**vars(fitting["text"]), "evidence": only_network(fitting["text"].evidence)}))
    results = {
        "what": "confidence of every second against the truth; see benchmarks/seconds.py for what counts as present",
        "fitted_on": {"list": settings.lists[0], "by": "text", "scenes": len(np.unique(fitting["text"].scene))},
        "judged_on": {"list": settings.lists[1], "scenes": len(np.unique(judging["text"].scene))},
        "constants": constants,
        "queries": {kind: judge(rows, constants) for kind, rows in judging.items()},
        "network_alone": {
            kind: judge(Seconds(**{**vars(rows), "evidence": only_network(rows.evidence)}), network_only)
            for kind, rows in judging.items()
        },
        "model_sha256": separator.model.sha256,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    if settings.write:
        write_constants(settings.model, constants)
    for name in ("queries", "network_alone"):
        for kind, row in results[name].items():
            print(name, kind, {key: value for key, value in row.items() if key != "reliability"})
    print(constants)


def gather(
    separator: Separator, corpus: Corpus, specs: list[MixtureSpec], limit: int, *, kinds: Sequence[str]
) -> dict[str, Seconds]:
    """Evidence and truth of every second."""
    rows: dict[str, list[tuple]] = {kind: [] for kind in kinds}
    for number, at in enumerate(range(0, len(specs) - PER_SCENE + 1, PER_SCENE)):
        if number == limit:
            break
        for kind, *found in asked(separator, corpus, specs[at : at + PER_SCENE], kinds=kinds):
            rows[kind].append((*found, number))
    made = {}
    for kind, found in rows.items():
        if found:
            evidence, truth = [np.concatenate(column) for column in list(zip(*found, strict=True))[:2]]
            there = np.concatenate([np.full(len(each[1]), each[1].any()) for each in found])
            scene = np.concatenate([np.full(len(each[1]), each[2]) for each in found])
            n_present = sum(bool(each[1].any()) for each in found)
            made[kind] = Seconds(evidence, truth, there & ~truth, scene, (n_present, len(found) - n_present))
    return made


def asked(
    separator: Separator, corpus: Corpus, specs: list[MixtureSpec], *, kinds: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Kind, evidence `[s, 3]` and truth `[s]` of every query to a scene."""
    parts = [render(spec, corpus) for spec in specs]
    waveform = torch.from_numpy(np.concatenate([part.mixture for part in parts]))[None]
    labels = {query.label for spec in specs for query in spec.queries}
    wanted = [spec.queries[number % len(spec.queries)] for number, spec in enumerate(specs)]
    wanted += [spec.absent for spec in specs if spec.absent is not None and spec.absent.label not in labels]
    one_each = {query.label: query for query in wanted}.values()
    ways = [(kind, spec, query) for kind in kinds for spec in one_each if (query := as_query(kind, spec, corpus))]
    asking = Asked.of([query for _, _, query in ways], separator.encoder)
    with Stream(ArraySource(waveform, CORPUS_RATE), separator.model, separator.encoder, asking) as stream:
        stream.propose()
        for _ in stream.render(range(len(ways)), listening=True):
            pass
        traces = stream.traces()
    whole = energies(waveform[0].numpy())
    for (kind, query, _), trace in zip(ways, traces, strict=True):
        own = energies(
            np.concatenate([label_sound(part, spec, query) for part, spec in zip(parts, specs, strict=True)])
        )
        truth = (own >= own.max() * 10 ** (ACTIVE_DB / 10)) & (own >= whole * 10 ** (AUDIBLE_DB / 10)) & (own > 0)
        columns = [trace.network.numpy(), trace.share_db.numpy(), np.full(len(truth), trace.match)]
        yield kind, np.stack(columns, axis=1), truth


def as_query(kind: str, spec: QuerySpec, corpus: Corpus) -> Query | None:
    """A query of one kind, or None if the list has none for this sound."""
    audio = (corpus.audio(spec.audio), CORPUS_RATE) if spec.audio else None
    image = corpus.image(spec.image) if spec.image else None
    if kind == "composed":
        return Query(text=spec.text, audio=audio, image=image) if audio is not None or image is not None else None
    value = {"text": spec.text, "audio": audio, "image": image}[kind]
    return None if value is None else Query(**{kind: value})


def label_sound(part: object, spec: MixtureSpec, query: QuerySpec) -> np.ndarray:
    """What a class sounds like in one mixture; silence if it is not in it."""
    own = [part.sources[index] for index, each in enumerate(spec.queries) if each.label == query.label]
    return np.sum(own, axis=0) if own else np.zeros_like(part.mixture)


def energies(waveform: np.ndarray) -> np.ndarray:
    """Of every second; the last one may be shorter."""
    return np.array([np.square(waveform[at : at + CORPUS_RATE]).sum() for at in range(0, len(waveform), CORPUS_RATE)])


def only_network(evidence: np.ndarray) -> np.ndarray:
    """The other columns set to nothing."""
    return evidence * np.array([1.0, 0.0, 0.0])


def fit(rows: Seconds) -> dict[str, float]:
    """Weighted logistic regression."""
    known = np.isfinite(rows.evidence).all(1)
    columns, weight = rows.evidence[known], rows.weight[known]
    sign = np.where(rows.present[known], -1.0, 1.0)
    centre, spread = columns.mean(0), columns.std(0).clip(1e-9)
    scaled = (columns - centre) / spread

    def loss(parameters: np.ndarray) -> float:
        logit = parameters[0] + scaled @ parameters[1:]
        return float((weight * np.logaddexp(0.0, sign * logit)).sum() + 1e-4 * np.square(parameters[1:]).sum())

    bias, *slopes = minimize(loss, np.zeros(1 + columns.shape[1]), method="BFGS").x
    raw = np.array(slopes) / spread
    return dict(zip(NAMES, [round(float(each), 5) for each in (bias - raw @ centre, *raw)], strict=True))


def confidence(rows: Seconds, constants: dict[str, float]) -> np.ndarray:
    """As `marssep.separate.trace.Trace.confidence`."""
    logit = constants["bias"] + rows.evidence[:, 0] * constants["network"]
    logit = logit + rows.evidence[:, 1] * constants["share"] + rows.evidence[:, 2] * constants["match"]
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -60.0, 60.0)))


def judge(rows: Seconds, constants: dict[str, float]) -> dict[str, object]:
    """Areas with an interval that draws scenes, Brier score, calibration error and reliability bins, weighted."""
    stated, weight = confidence(rows, constants), rows.weight
    draws, scenes = Draws(resamples=500), np.unique(rows.scene)
    rng, areas = np.random.default_rng(draws.seed), []
    places = {scene: np.flatnonzero(rows.scene == scene) for scene in scenes}
    for _ in range(draws.resamples):
        drawn = np.concatenate([places[scene] for scene in rng.choice(scenes, len(scenes))])
        areas.append(area(stated[drawn][rows.present[drawn]], stated[drawn][~rows.present[drawn]]))
    bins = np.minimum((stated * N_BINS).astype(int), N_BINS - 1)
    mass, excess = np.bincount(bins, weight, N_BINS), np.bincount(bins, weight * (stated - rows.present), N_BINS)
    absent = ~rows.present & ~rows.paused
    return {
        "n_present_queries": rows.queries[0],
        "n_absent_queries": rows.queries[1],
        "seconds": {"present": int(rows.present.sum()), "paused": int(rows.paused.sum()), "absent": int(absent.sum())},
        "area": round(area(stated[rows.present], stated[~rows.present]), 4),
        "area_interval": [round(float(each), 4) for each in np.quantile(areas, [0.025, 0.975])],
        "area_against_pauses": round(area(stated[rows.present], stated[rows.paused]), 4),
        "area_against_absent": round(area(stated[rows.present], stated[absent]), 4),
        "brier": round(float((weight * np.square(stated - rows.present)).sum()), 4),
        "expected_calibration_error": round(float(np.abs(excess).sum()), 4),
        "at_one_half": {
            "present_accepted": round(float((stated[rows.present] >= 0.5).mean()), 4),
            "pauses_rejected": round(float((stated[rows.paused] < 0.5).mean()), 4),
            "absent_rejected": round(float((stated[absent] < 0.5).mean()), 4),
        },
        "reliability": [
            {
                "from": index / N_BINS,
                "stated": round(float(np.average(stated[bins == index], weights=weight[bins == index])), 4),
                "found": round(float(np.average(rows.present[bins == index], weights=weight[bins == index])), 4),
                "seconds": int((bins == index).sum()),
            }
            for index in range(N_BINS)
            if mass[index] > 0
        ],
    }


def write_constants(folder: Path | None, constants: dict[str, float]) -> None:
    """Into config.json, whole or not at all."""
    from marssep.model.store import SHIPPED

    path = (folder or SHIPPED / "default") / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {f"second_{name}": value for name, value in constants.items()}
    write_text(path, json.dumps(config, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
