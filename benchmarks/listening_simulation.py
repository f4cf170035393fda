"""Simulated raters of known taste take both listening studies, and the analysis must find their taste again.

    python benchmarks/listening_simulation.py [--items 10] [--seed 7] [--output results/listening-simulation.json]

Ten raters hear three systems whose true quality is known, through the same desk that serves the page; an eleventh moves
every slider at random. No figure says anything about a separator: it says what the analysis is worth.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from marssep.audio import write_audio
from marssep.evaluate.kept import KeptItem, write_kept
from marssep.evaluate.listening import Desk, analyse, open_desk
from marssep.evaluate.listening.preference import bradley_terry
from marssep.evaluate.listening.study import ANCHOR, REFERENCE
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions

QUALITY = {"clean": 80.0, "leaky": 60.0, "muddy": 40.0}
LEAK = {"clean": 0.05, "leaky": 0.25, "muddy": 0.7}
ANCHOR_QUALITY = 15.0
BIAS, ITEM, NOISE = 5.0, 4.0, 7.0  # standard deviations: between raters, between items, from answer to answer
POINTS_A_LOGIT = 15.0  # difference in quality that makes the odds of a preference e to 1
NO_PREFERENCE = 0.1
SAMPLE_RATE = 16000
SOUNDS = ("bell", "whistle", "engine hum", "bird song", "string pad")
CARELESS = "careless"


class SimulatedRater:
    """Answers from a taste that is known: quality of the system, own bias, the item's ease, and noise."""

    def __init__(self, name: str, *, seed: int) -> None:
        self.name = name
        self.careless = name == CARELESS
        self.generator = np.random.default_rng([seed, *name.encode()])
        self.bias = self.generator.normal(0.0, BIAS)
        self.seed = seed

    def score(self, system: str, item: str) -> int:
        """A score from 0 to 100."""
        if self.careless:
            return int(self.generator.integers(0, 101))
        if system == REFERENCE:
            return round(100.0 - min(9.0, abs(self.generator.normal(0.0, 3.0))))
        quality = ANCHOR_QUALITY if system == ANCHOR else QUALITY[system]
        ease = np.random.default_rng([self.seed, *item.encode()]).normal(0.0, ITEM)
        return round(float(np.clip(quality + self.bias + ease + self.generator.normal(0.0, NOISE), 0.0, 100.0)))

    def choice(self, system_a: str, system_b: str) -> str:
        """Which of two."""
        if self.generator.random() < NO_PREFERENCE:
            return "none"
        logit = 0.0 if self.careless else (QUALITY[system_a] - QUALITY[system_b]) / POINTS_A_LOGIT
        return "a" if self.generator.random() < 1.0 / (1.0 + np.exp(-logit)) else "b"


def made_run(folder: Path, *, n_items: int, seed: int, seconds: float = 1.0) -> Path:
    """A run folder of made sounds: tones as targets, noise as the rest, systems that leave more or less of it."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    items = []
    for number in range(n_items):
        name = SOUNDS[number % len(SOUNDS)]
        pitch = generator.uniform(200.0, 900.0)
        partials = [np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8)]
        target = 0.2 * sum(partials) * np.exp(-2.0 * (time % 0.5))
        rest = 0.1 * generator.standard_normal(len(time)) * (1.0 + np.sin(2 * np.pi * 3.0 * time))
        place = folder / "audio" / f"{number:06d}"
        place.mkdir(parents=True)
        sounds = {"mixture": target + rest, "reference": target}
        sounds |= {system: target + leak * rest for system, leak in LEAK.items()}
        sounds["asked"] = 0.2 * sum(partials[:3]) * np.exp(-3.0 * time)
        for sound, waveform in sounds.items():
            write_audio(place / f"{sound}.flac", 0.5 * waveform, sample_rate=SAMPLE_RATE, subtype="PCM_16")
        colour = tuple(int(value) for value in generator.integers(60, 220, size=3))
        shade = Image.radial_gradient("L").convert("RGB").resize((160, 160))
        Image.blend(shade, Image.new("RGB", (160, 160), colour), 0.5).save(place / "asked.png")
        paths = {sound: f"audio/{number:06d}/{sound}.flac" for sound in sounds}
        items.append(
            KeptItem(
                mixture_id=f"{number:06d}",
                query=0,
                label=name,
                text=name,
                mixture=paths["mixture"],
                reference=paths["reference"],
                estimates={system: paths[system] for system in QUALITY},
                image=f"audio/{number:06d}/asked.png" if number % 2 == 0 else None,
                audio=paths["asked"] if number % 3 == 0 else None,
            )
        )
    write_kept(folder, items)
    return folder


def take(desk: Desk, rater: SimulatedRater) -> None:
    """Answer every page of a study."""
    desk.join(rater.name)
    while (page := desk.next(rater.name)) is not None:
        item, systems = desk.behind(rater.name, page["trial"])
        if desk.study.kind == "mushra":
            scores = {sound: rater.score(system, item) for sound, system in systems.items()}
            desk.answer(rater.name, page["trial"], scores=scores)
        else:
            desk.answer(rater.name, page["trial"], choice=rater.choice(*systems.values()))


def expected_strength(n_careful: int) -> dict[str, float]:
    """The Bradley-Terry scale of the choices that these raters make on the whole."""
    quality = np.array(list(QUALITY.values()))
    careful = 1.0 / (1.0 + np.exp(-(quality[:, None] - quality[None]) / POINTS_A_LOGIT))
    share = (n_careful * careful + 0.5) / (n_careful + 1)
    share = (1.0 - NO_PREFERENCE) * share + 0.5 * NO_PREFERENCE
    strength = bradley_terry(1e9 * share[None] * (1.0 - np.eye(len(quality))))[0]
    return dict(zip(QUALITY, strength.tolist(), strict=True))


def simulate(folder: Path, *, n_raters: int, n_items: int, seed: int) -> dict:
    """Both studies, and what the analysis found beside what is true."""
    run = made_run(folder / "run", n_items=n_items, seed=seed)
    names = [f"rater-{number:02d}" for number in range(n_raters)] + [CARELESS]
    found = {}
    for kind in ("mushra", "ab"):
        desk = open_desk(run, folder / f"{kind}.sqlite", kind=kind, seed=seed)
        for name in names:
            take(desk, SimulatedRater(name, seed=seed))
        found[kind] = analyse(desk.store, seed=seed)
    scores = {row.stimulus: row.score.model_dump() for row in found["mushra"].scores}
    strengths = {row.system: row.strength.model_dump() for row in found["ab"].strengths}
    centre = float(np.mean(list(QUALITY.values())))
    return {
        "what": "simulated raters of known taste through both studies; no person listened and no separator ran",
        "seed": seed,
        "n_items": n_items,
        "n_raters": len(names),
        "mushra": {
            "true": QUALITY | {ANCHOR: ANCHOR_QUALITY},
            "recovered": scores,
            "excluded": {row.rater: row.excluded for row in found["mushra"].raters if row.excluded},
            "differences": [row.model_dump() for row in found["mushra"].differences],
            "alpha_systems": found["mushra"].alpha_systems,
            "alpha_all": found["mushra"].alpha_all,
            "anchor": found["mushra"].anchor.model_dump(),
        },
        "ab": {
            "true_strength": {system: (value - centre) / POINTS_A_LOGIT for system, value in QUALITY.items()},
            "expected_strength": expected_strength(n_raters),
            "recovered": strengths,
            "note": "expected: what endless answers of these raters would give; 'no preference', which counts half for "
            "both, and the careless rater, whom no screening removes from an A/B study, draw the true scale in",
            "pairs": [row.model_dump() for row in found["ab"].pairs],
            "share_a": found["ab"].share_a.model_dump(),
        },
    }


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=10, help="careful raters; one careless is added")
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("results/listening-simulation.json"))
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = simulate(Path(folder), n_raters=settings.raters, n_items=settings.items, seed=settings.seed)
    found["versions"] = library_versions()
    write_text(settings.output, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
