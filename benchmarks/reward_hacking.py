"""How far can a reward be fooled? Searches for separations of high reward and low SI-SDR, and tries guards.

    marssep models fetch judge
    python benchmarks/reward_hacking.py --corpus DIR [--mixtures 20] [--examples docs/examples]

Every attack starts from the shipped separator's mask of a test mixture. `greedy` climbs the gradient of the reward,
whatever becomes of the sound. The others look for the lowest SI-SDR at which the reward is no less than at the start:
`sly` by gradient on the mask, `search` by random search over the policy's samples, `noise` and `tone` by adding a sound
to the separation, as loud as the reward allows. The judge is an encoder of another make that no reward uses.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from reward_hacking_examples import Example, write_examples
from torch import Tensor

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.judge import load_judge
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import mean_interval, si_sdr_db
from marssep.model import load_model
from marssep.query import load_encoder
from marssep.reward.encoder import SHIPPED, RewardEncoder
from marssep.reward.exploration import explore_masks
from marssep.reward.shapes import REWARDS, RewardInputs
from marssep.separate.blocks import grid_power
from marssep.separate.chunks import propose

STEP_SIZE = 0.3
SEARCHES, PER_SEARCH = 4, 8
LEVELS_DB = (-20.0, -10.0, -5.0, 0.0, 5.0)
FOOLED_DB = 3.0
_STRICT = 20.0  # what a reward below that of the start costs the sly attack, in gaps of target and mixture
_FLOOR_SLOPE = 3.0  # of the signal floor, per 30 dB: 0.1 per dB
ATTACKS = ("greedy", "sly", "search", "noise", "tone")


@dataclass(frozen=True)
class Attacked:
    """A reward under attack.

    Attributes:
        value: scene and waveforms `[b, n]` to rewards `[b]`.
        clipped: masks are held between the true masks, cell by cell.
    """

    value: Callable[["Scene", Tensor], Tensor]
    clipped: bool = False


def shape(name: str, anchor: str = "audio") -> Attacked:
    """A reward of the package."""
    return Attacked(lambda scene, waves: scene.reward(waves, name, anchor))


def sum_of(anchor: str, name: str, weight: float) -> Attacked:
    """Guard: cosine plus a weighted signal reward."""
    return Attacked(
        lambda scene, waves: scene.reward(waves, "cosine", anchor) + weight * scene.reward(waves, name, anchor)
    )


def floored(anchor: str) -> Attacked:
    """Guard: whatever SI-SDR falls below that of the start costs 0.1 per dB."""

    def value(scene: "Scene", waves: Tensor) -> Tensor:
        below = (scene.floor - scene.reward(waves, "si_sdr", anchor)).clamp_min(0.0)
        return scene.reward(waves, "cosine", anchor) - _FLOOR_SLOPE * below

    return Attacked(value)


PLAIN = {
    "cosine": shape("cosine"),
    "cosine, mean anchor": shape("cosine", "mean"),
    "cosine, text anchor": shape("cosine", "text"),
    "margin": shape("margin"),
    "local_cosine": shape("local_cosine"),
    "log_magnitude": shape("log_magnitude"),
    "local_log_magnitude": shape("local_log_magnitude"),
    "local_si_sdr": shape("local_si_sdr"),
    "si_sdr": shape("si_sdr"),
}
GUARDS = {
    f"{guard} ({anchor})": attacked
    for anchor in ("audio", "text")
    for guard, attacked in {
        "least of stages 1, 2, 3": Attacked(lambda scene, waves, anchor=anchor: scene.least(waves, anchor)),
        "margin": shape("margin", anchor),
        "+ log_magnitude": sum_of(anchor, "log_magnitude", 1.0),
        "+ 0.5 si_sdr": sum_of(anchor, "si_sdr", 0.5),
        "signal floor": floored(anchor),
        "clipped masks": Attacked(
            lambda scene, waves, anchor=anchor: scene.reward(waves, "cosine", anchor), clipped=True
        ),
    }.items()
    if (guard, anchor) != ("margin", "audio")
}
ALL = {**PLAIN, **GUARDS}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("results/reward-hacking.json"))
    parser.add_argument("--examples", type=Path)
    parser.add_argument("--rewards", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--steps", type=int, default=30)
    settings = parser.parse_args()
    started, corpus, model, judge = time.monotonic(), Corpus.open(settings.corpus), load_model("small"), load_judge()
    query = load_encoder(model.config.encoder)
    encoders = [RewardEncoder(query), *(RewardEncoder.load(SHIPPED / f"stage{k}", encoder=query) for k in (2, 3))]
    rows, examples = [], []
    for index, spec in enumerate(read_list("open-test")[: settings.mixtures]):
        scene = Scene(spec, index, corpus, model, encoders)
        for name in settings.rewards:
            attacked = ALL[name]
            made = {"start": scene.start, **scene.attacks(attacked, settings.steps)}
            scores = {attack: score(scene, wave, attacked, judge) for attack, wave in made.items()}
            rows += [{"mixture": spec.id, "reward": name, "attack": attack, **each} for attack, each in scores.items()]
            if name in PLAIN:
                examples += [
                    Example(
                        spec, scene.chosen, name, attack, scores["start"], scores[attack], scene.waves(made[attack])
                    )
                    for attack in ("greedy", "sly", "search")
                ]
                examples = worst(examples)
        print(f"{index + 1}/{settings.mixtures} after {time.monotonic() - started:.0f} s", flush=True)
    results = {
        "what": "how far rewards can be fooled: see docs/reward.md",
        "n_mixtures": len({row["mixture"] for row in rows}),
        "rewards": {name: summary(rows, name) for name in PLAIN if name in settings.rewards},
        "guards": {name: summary(rows, name) for name in GUARDS if name in settings.rewards},
        "judge_on_fooled": {name: fooled_by_judge(rows, name) for name in settings.rewards},
        "settings": {"steps": settings.steps, "step_size": STEP_SIZE, "search": [SEARCHES, PER_SEARCH],
                     "levels_db": LEVELS_DB, "fooled_db": FOOLED_DB, "seed": "number of the mixture"},
        "reward_encoder": encoders[-1].fingerprint,
        "separator": model.sha256,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    if settings.examples is not None:
        write_examples(examples, settings.examples, corpus)
    print(markdown(results))


class Scene:
    """One mixture, its target, the separator's mask, and what rewards need."""

    def __init__(self, spec, index, corpus, model, encoders) -> None:
        rendered = render(spec, corpus)
        self.chosen = index % len(spec.sources)
        self.target, self.mixture = (
            torch.from_numpy(wave)[None] for wave in (rendered.sources[self.chosen], rendered.mixture)
        )
        self.encoders, self.spectral, self.rng = encoders, model.spectral, np.random.default_rng(index)
        words, rest = [spec.queries[self.chosen].text], self.mixture - self.target
        power = grid_power(self.mixture, CORPUS_RATE, self.spectral)
        query = encoders[0].encoder.embed_text(words)
        self.mask = propose(model.network, power, query, chunk_steps=model.config.chunk_steps).mask.clone()
        self.spectrum = self.spectral.stft(self.mixture, CORPUS_RATE)
        self.low, self.high = true_range(
            *(grid_power(wave, CORPUS_RATE, self.spectral) for wave in (self.target, rest))
        )
        with torch.no_grad():
            self.anchors = [self._anchors(encoder, words, rest) for encoder in encoders]
            self.start = self.apply(self.mask[None])
            self.floor = self.reward(self.start, "si_sdr", "audio")

    def _anchors(self, encoder: RewardEncoder, words: list[str], rest: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """z* of the target and of what else sounds, by anchor; what else sounds has no name."""
        sound, name = encoder.embed_audio(self.target, CORPUS_RATE), encoder.embed_text(words)
        other = encoder.embed_audio(rest, CORPUS_RATE)
        return {anchor: (encoder.anchors[anchor](sound, name), other) for anchor in ("audio", "mean", "text")}

    def apply(self, masks: Tensor) -> Tensor:
        """Waveforms of masks on the grid."""
        wide = self.spectral.from_grid(masks, CORPUS_RATE, self.spectrum.shape[-1])
        return self.spectral.istft(wide * self.spectrum, CORPUS_RATE, self.mixture.shape[-1])

    def reward(self, waves: Tensor, name: str, anchor: str) -> Tensor:
        """A reward of the package, of waveforms `[b, n]`."""
        n = len(waves)
        wide = (each.expand(n, -1) for each in (self.target, self.mixture))
        anchors = (each.expand(n, -1) for each in self.anchors[-1][anchor])
        return REWARDS[name](self.encoders[-1], RewardInputs(waves, *wide, CORPUS_RATE, *anchors))

    def least(self, waves: Tensor, anchor: str) -> Tensor:
        """The least of three encoders' cosines."""
        near = [
            (encoder.embed_audio(waves, CORPUS_RATE) * anchors[anchor][0]).sum(1)
            for encoder, anchors in zip(self.encoders, self.anchors, strict=True)
        ]
        return torch.stack(near).amin(0)

    def attacks(self, attacked: Attacked, steps: int) -> dict[str, Tensor]:
        """Waveform that each attack ends with."""
        with torch.no_grad():
            ends = torch.cat([self.target, self.mixture, self.start])
            target, mixture, least = attacked.value(self, ends)
        unit = (target - mixture).abs().clamp_min(0.02)
        greedy, sly = self.climb(attacked, least, unit, steps=steps)
        made = {"greedy": greedy, "sly": sly, "search": self.search(attacked, least)}
        if not attacked.clipped:  # a mask cannot add a sound
            noise = torch.from_numpy(self.rng.standard_normal(self.start.shape)).float()
            tone = torch.sin(torch.arange(self.start.shape[1]) * 2 * torch.pi * 1000 / CORPUS_RATE)[None]
            made |= {name: self.add(sound, attacked, least) for name, sound in (("noise", noise), ("tone", tone))}
        return made

    def limit(self, masks: Tensor, attacked: Attacked) -> Tensor:
        """Masks, clipped where the reward's guard says so."""
        return masks.clamp(self.low, self.high) if attacked.clipped else masks

    def climb(self, attacked: Attacked, least: Tensor, unit: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """Adam on the logits of two masks at once: greedy and sly. Sly keeps its worst allowed separation."""
        logits = self.mask.clamp(0.02, 0.98).logit().repeat(2, 1, 1).requires_grad_()
        optimizer = torch.optim.Adam([logits], STEP_SIZE)
        worst, kept = float("inf"), self.start
        for _ in range(steps + 1):
            waves = self.apply(self.limit(torch.sigmoid(logits), attacked))
            values, quality = attacked.value(self, waves), si_sdr_db(waves[1:], self.target)[0]
            if values[1] >= least and quality < worst:
                worst, kept = quality.item(), waves[1:].detach()
            below = F.relu((least - values[1]) / unit)
            loss = -values[0] / unit + quality.clamp_min(-30.0) / 30.0 + _STRICT * below
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return waves[:1].detach(), kept

    @torch.no_grad()
    def search(self, attacked: Attacked, least: Tensor) -> Tensor:
        """Of the policy's samples the worst that the reward allows, and on from there."""
        mask, worst, kept = self.mask, float("inf"), self.start
        for _ in range(SEARCHES):
            tried = explore_masks(mask, PER_SEARCH, rng=self.rng)
            waves = self.apply(self.limit(tried, attacked))
            quality = si_sdr_db(waves, self.target.expand_as(waves))
            quality = quality.masked_fill(attacked.value(self, waves) < least, float("inf"))
            chosen = int(quality.argmin())
            if quality[chosen] < worst:
                mask, worst, kept = tried[chosen], quality[chosen].item(), waves[chosen : chosen + 1]
        return kept

    @torch.no_grad()
    def add(self, sound: Tensor, attacked: Attacked, least: Tensor) -> Tensor:
        """A sound on top of the separation, as loud as the reward allows."""
        sound = sound * self.start.square().mean().sqrt() / sound.square().mean().sqrt()
        tried = torch.cat([self.start + sound * 10 ** (level / 20) for level in LEVELS_DB])
        allowed = (attacked.value(self, tried) >= least).nonzero()[:, 0]
        return tried[allowed[-1:]] if len(allowed) else self.start

    def waves(self, fooled: Tensor) -> dict[str, np.ndarray]:
        """What an example shows."""
        named = {"mixture": self.mixture, "target": self.target, "start": self.start, "fooled": fooled}
        return {name: wave[0].numpy() for name, wave in named.items()}


def true_range(target: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest of the true masks, cell by cell: share of magnitudes, of powers, and which is louder."""
    masks = torch.stack(
        [target.sqrt() / (target.sqrt() + rest.sqrt() + 1e-9), target / (target + rest + 1e-9), (target > rest).float()]
    )
    return masks.amin(0), masks.amax(0)


@torch.no_grad()
def score(scene: Scene, wave: Tensor, attacked: Attacked, judge) -> dict[str, float]:
    """Reward, SI-SDR, what the judge says."""
    heard = judge(torch.cat([wave, scene.target]), CORPUS_RATE).nan_to_num(0.0)
    return {
        "value": attacked.value(scene, wave).item(),
        "si_sdr_db": si_sdr_db(wave, scene.target).clamp(-30.0, 60.0).item(),
        "judge": float(heard[0] @ heard[1]),
    }


def worst(examples: list[Example]) -> list[Example]:
    """The three in which the judge dislikes most what the reward likes, each of another mixture and reward."""
    kept: list[Example] = []
    for example in sorted(examples, key=lambda example: example.loss, reverse=True):
        taken = {each.spec.id for each in kept} | {each.reward for each in kept}
        if example.gain >= 0 and not taken & {example.spec.id, example.reward} and len(kept) < 3:
            kept.append(example)
    return kept


def paired(rows: list[dict], reward: str, attack: str) -> list[tuple[dict, dict]]:
    """Start and end of an attack, mixture by mixture."""
    by_place = {(row["mixture"], row["attack"]): row for row in rows if row["reward"] == reward}
    return [(by_place[mixture, "start"], row) for (mixture, name), row in by_place.items() if name == attack]


def is_fooled(start: dict, end: dict) -> bool:
    """No less reward, and SI-SDR lower by more than `FOOLED_DB`."""
    return end["value"] >= start["value"] and end["si_sdr_db"] < start["si_sdr_db"] - FOOLED_DB


def summary(rows: list[dict], reward: str) -> dict[str, dict]:
    """By attack: mean changes from the start with intervals, and the share that is fooled."""
    table = {}
    for attack in ATTACKS:
        pairs = paired(rows, reward, attack)
        if not pairs:
            continue
        cell: dict = {"fooled": round(float(np.mean([is_fooled(*pair) for pair in pairs])), 3), "n": len(pairs)}
        for key in ("value", "si_sdr_db", "judge"):
            interval = mean_interval(np.array([end[key] - start[key] for start, end in pairs]))
            cell[f"{key}_change"] = {part: round(getattr(interval, part), 4) for part in ("mean", "low", "high")}
        table[attack] = cell
    table["start"] = {
        key: round(float(np.mean([start[key] for start, _ in paired(rows, reward, "greedy")])), 4)
        for key in ("value", "si_sdr_db", "judge")
    }
    return table


def fooled_by_judge(rows: list[dict], reward: str) -> dict[str, float]:
    """Of the separations that fool a reward: how often the judge finds them worse than the start, and by how much."""
    pairs = [pair for attack in ATTACKS for pair in paired(rows, reward, attack) if is_fooled(*pair)]
    changes = np.array([end["judge"] - start["judge"] for start, end in pairs])
    if not pairs:
        return {"n": 0}
    worse, mean = float((changes < 0).mean()), float(changes.mean())
    return {"n": len(pairs), "judge_disagrees": round(worse, 3), "judge_change": round(mean, 4)}


def markdown(results: dict) -> str:
    """Tables for the page."""
    head = (
        "| | greedy: reward | greedy: SI-SDR, dB | sly: dB | search | noise | tone | fooled by sly | judge |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    parts = []
    for title in ("rewards", "guards"):
        lines = [_line(name, row, results["judge_on_fooled"][name]) for name, row in results[title].items()]
        parts.append(f"{title}\n\n{head}" + "".join(lines))
    return "\n".join(parts)


def _line(name: str, row: dict, judged: dict) -> str:
    def change(attack: str, key: str, digits: int) -> str:
        if attack not in row:
            return "–"
        cell = row[attack][f"{key}_change"]
        return f"{cell['mean']:+.{digits}f} [{cell['low']:+.{digits}f}, {cell['high']:+.{digits}f}]"

    cells = [change("greedy", "value", 2), change("greedy", "si_sdr_db", 1)]
    cells += [change(attack, "si_sdr_db", 1) for attack in ("sly", "search", "noise", "tone")]
    cells.append(f"{100 * row['sly']['fooled']:.0f} %")
    cells.append(f"{100 * judged['judge_disagrees']:.0f} % of {judged['n']}" if judged["n"] else "–")
    return f"| {name} | " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    main()
