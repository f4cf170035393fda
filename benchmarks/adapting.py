"""What it is worth that a mask adapts to its recording: dictionaries of spectra, and directions where channels differ.

    pip install pyroomacoustics
    python benchmarks/adapting.py --corpus DIR [--lists open-test open-test-3] [--mixtures 100]

The committed mixtures are of one channel, so there is a scene `mono`, and their sources are placed anew, by a seed:

* `panned`: every source somewhere between left and right (constant power), as a mixing desk does it;
* `studio`: as before, with 6 to 20 dB less of a wide reverberation of 0.4 to 1.5 s;
* `room`: two microphones 2 to 20 cm apart in a simulated room (image sources, 0.2 to 0.6 s of reverberation), sources
  anywhere at least 0.7 m away; what reaches the microphones of a source is the truth.

Asked by words, without the gate. SI-SDR takes both channels as one signal. Presence is asked of every mixture's absent
sound too. All constants were chosen on `open-val`, `esc10-val` and `open-val-3`.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyroomacoustics
import torch
from scipy.signal import fftconvolve

from marssep import Query, Separator
from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.presence import roc
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import mean_interval, si_sdr_db
from marssep.separate.asked import Asked
from marssep.separate.sources import ArraySource
from marssep.separate.streaming import Stream
from marssep.spectral.adaptation import recipe

SEED = 7
WAYS = ("mask", "adapted")
HARM_DB = -0.5
"""A query that loses more than this was harmed."""


def panned(rng: np.random.Generator, sources: np.ndarray) -> np.ndarray:
    """Sources `[s, n]` between left and right: `[s, 2, n]`."""
    angles = rng.uniform(0, np.pi / 2, len(sources))
    gains = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return gains[:, :, None] * sources[:, None]


def studio(rng: np.random.Generator, sources: np.ndarray) -> np.ndarray:
    """Panned, and in one wide reverberation."""
    dry, seconds = panned(rng, sources), rng.uniform(0.4, 1.5)
    time = np.arange(round(seconds * CORPUS_RATE)) / CORPUS_RATE
    tail = rng.standard_normal((2, len(time))) * 10.0 ** (-3.0 * time / seconds)  # 60 dB down after `seconds`
    tail[:, : round(0.01 * CORPUS_RATE)] = 0.0
    tail /= np.linalg.norm(tail, axis=1, keepdims=True)
    levels = 10.0 ** (rng.uniform(-20.0, -6.0, len(sources)) / 20.0)
    length = sources.shape[1]
    wet = [
        [level * fftconvolve(source, side)[:length] for side in tail]
        for source, level in zip(sources, levels, strict=True)
    ]
    return dry + np.array(wet)


def room(rng: np.random.Generator, sources: np.ndarray) -> np.ndarray:
    """Two microphones in a simulated room."""
    size = rng.uniform([4.0, 3.5, 2.5], [9.0, 7.0, 3.5])
    absorption, order = pyroomacoustics.inverse_sabine(rng.uniform(0.2, 0.6), size)
    walls = pyroomacoustics.Material(absorption)
    simulated = pyroomacoustics.ShoeBox(size, fs=CORPUS_RATE, materials=walls, max_order=min(order, 20))
    middle = rng.uniform([1.0, 1.0, 1.0], [size[0] - 1.0, size[1] - 1.0, 1.8])
    angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.2)
    aside = apart / 2 * np.array([np.cos(angle), np.sin(angle), 0.0])
    simulated.add_microphone_array(np.stack([middle - aside, middle + aside], axis=1))
    for _ in sources:
        place = middle
        while np.linalg.norm(place - middle) < 0.7:
            place = rng.uniform([0.5, 0.5, 0.5], [size[0] - 0.5, size[1] - 0.5, 2.0])
        simulated.add_source(place)
    simulated.compute_rir()
    placed = []
    for number, source in enumerate(sources):
        heard = np.stack([fftconvolve(source, ears[number])[: len(source)] for ears in simulated.rir])
        placed.append(heard * np.sqrt(np.square(source).mean() / max(np.square(heard).mean(), 1e-12)))
    return np.stack(placed)


def mono(rng: np.random.Generator, sources: np.ndarray) -> np.ndarray:
    """As they are."""
    return sources[:, None]


SCENES = {"mono": mono, "panned": panned, "studio": studio, "room": room}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--lists", nargs="+", default=["open-test", "open-test-3", "esc10-val"])
    parser.add_argument("--mixtures", type=int, default=100, help="of each list")
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--output", type=Path, default=Path("results/adapting.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    separator, corpus = Separator.load(given.model), Corpus.open(given.corpus)
    found: dict[str, Any] = {}
    for name in given.lists:
        specs = read_list(name)[: given.mixtures]
        for scene in given.scenes:
            rows = [row for index, spec in enumerate(specs) for row in ask(separator, corpus, spec, scene, index)]
            found.setdefault(name, {})[scene] = summary(rows)
            print(name, scene, json.dumps(found[name][scene]), flush=True)
    written = {
        "what": "SI-SDRi in dB by words with the mask alone and with one that adapts; intervals draw whole mixtures",
        "seed": SEED,
        "settings": recipe(),
        "lists": found,
        "model": separator.model.sha256,
        "versions": library_versions() | {"pyroomacoustics": pyroomacoustics.__version__},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(given.output, json.dumps(written, indent=1) + "\n")


def ask(separator: Separator, corpus: Corpus, spec: MixtureSpec, scene: str, index: int) -> list[dict[str, Any]]:
    """One mixture: every sound that is there and one that is not, with the mask alone and with one that adapts."""
    sources = SCENES[scene](np.random.default_rng([SEED, index]), render(spec, corpus).sources)
    sources = torch.from_numpy(sources.astype(np.float32))
    mixture = sources.sum(0)
    asked = [*spec.queries, *([] if spec.absent is None else [spec.absent])]
    labels = [source.label for source in spec.sources]
    rows = [{"mixture": spec.id, "truth": labels.index(each.label) if each.label in labels else None} for each in asked]
    source = ArraySource(mixture, CORPUS_RATE)
    queries = Asked.of([Query(text=each.text) for each in asked], separator.encoder)
    with Stream(source, separator.model, separator.encoder, queries) as stream:
        stream.propose()
        for way in WAYS:
            if way == "adapted":
                stream.adapt()
            targets = stream.whole(mixture)
            for row, target, verdict in zip(rows, targets, stream.verdicts(gate=False), strict=True):
                row[f"{way}_presence"] = verdict.presence
                if row["truth"] is not None:
                    truth = sources[row["truth"]].flatten()
                    before, after = (float(si_sdr_db(each.flatten(), truth)) for each in (mixture, target))
                    row[way] = after - before
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one list and scene."""
    there = [row for row in rows if row["truth"] is not None]
    absent = [row for row in rows if row["truth"] is None]
    mixtures = [row["mixture"] for row in there]
    gain = np.array([row["adapted"] - row["mask"] for row in there])
    made: dict[str, Any] = {"mixtures": len(set(mixtures)), "queries": len(there)}
    for name, values in (
        ("mask_db", [row["mask"] for row in there]),
        ("adapted_db", [row["adapted"] for row in there]),
        ("difference_db", gain),
    ):
        interval = mean_interval(values, mixtures)
        made[name] = {key: round(getattr(interval, key), 3) for key in ("mean", "low", "high")}
    made["median_difference_db"] = round(float(np.median(gain)), 3)
    made["harmed"] = round(float((gain < HARM_DB).mean()), 4)
    for way in WAYS:
        scores = [[row[f"{way}_presence"] for row in each] for each in (there, absent)]
        made[f"{way}_presence_area"] = round(roc(*scores).area, 4)
    return made


if __name__ == "__main__":
    main()
