"""How far can a reward be fooled: high reward, low SI-SDR? Gradient ascent and random search on masks, noise, tones.

    marssep models fetch judge
    python benchmarks/reward_hacking.py --corpus DIR [--mixtures 10] [--audio DIR]

Every attack starts from the shipped separator's mask and may do what it likes with the mask, the mixture's phase given;
`noise` and `tone` add a sound of their own to the separation instead, its level chosen for the highest reward. The
judge is an encoder of another make that no reward uses. Guards are tried as rewards of their own.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
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
from marssep.reward.encoder import RewardEncoder
from marssep.reward.exploration import explore_masks
from marssep.reward.shapes import RewardInputs, weighted_reward
from marssep.separate.blocks import grid_power
from marssep.separate.chunks import propose

REWARDS = {
    "cosine": {"cosine": 1.0},
    "cosine, text anchor": {"cosine": 1.0},
    "margin": {"margin": 1.0},
    "guard: cosine + log_magnitude": {"cosine": 1.0, "log_magnitude": 1.0},
    "guard: cosine + 0.5 si_sdr": {"cosine": 1.0, "si_sdr": 0.5},
}
STEPS, RATE_OF_CHANGE = 40, 0.3
SEARCHES, PER_SEARCH = 5, 8
LEVELS_DB = (-20.0, -10.0, 0.0)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--mixtures", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("results/reward-hacking.json"))
    parser.add_argument("--audio", type=Path)
    settings = parser.parse_args()
    started, corpus, model, judge = time.monotonic(), Corpus.open(settings.corpus), load_model(), load_judge()
    encoder = RewardEncoder.load(encoder=load_encoder(model.config.encoder))
    rows = []
    for index, spec in enumerate(read_list("open-test")[: settings.mixtures]):
        scene = Scene(spec, index, corpus, model, encoder)
        for name, weights in REWARDS.items():
            for attack, wave in scene.attacks(name, weights).items():
                rows.append(
                    {"mixture": spec.id, "reward": name, "attack": attack, **scene.score(wave, name, weights, judge)}
                )
                if settings.audio is not None and attack in ("gradient", "start"):
                    write_wave(
                        settings.audio / f"{spec.id}-{name.replace(' ', '-').replace(':', '')}-{attack}.wav", wave
                    )
        print(f"{index + 1}/{settings.mixtures}", flush=True)
    results = {
        "what": "reward hacking of the final reward encoder, anchor audio unless said; means over mixtures",
        "n_mixtures": settings.mixtures,
        "table": summary(rows),
        "settings": {"steps": STEPS, "rate": RATE_OF_CHANGE, "search": [SEARCHES, PER_SEARCH], "levels_db": LEVELS_DB},
        "reward_encoder": encoder.fingerprint,
        "separator": model.sha256,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["table"], indent=1))


class Scene:
    """One mixture, its target, the separator's mask, and what rewards need."""

    def __init__(self, spec, index, corpus, model, encoder) -> None:
        rendered = render(spec, corpus)
        chosen = index % len(spec.sources)
        self.target, self.mixture = (
            torch.from_numpy(wave)[None] for wave in (rendered.sources[chosen], rendered.mixture)
        )
        self.encoder, self.spectral, self.rng = encoder, model.spectral, np.random.default_rng(index)
        query = encoder.encoder.embed_text([spec.queries[chosen].text])
        power = grid_power(self.mixture, CORPUS_RATE, self.spectral)
        self.mask = propose(model.network, power, query, chunk_steps=model.config.chunk_steps).mask.clone()
        self.spectrum = self.spectral.stft(self.mixture, CORPUS_RATE)
        with torch.no_grad():
            self.anchor = encoder.embed_audio(self.target, CORPUS_RATE)
            self.rest = encoder.embed_audio(self.mixture - self.target, CORPUS_RATE)
            self.text = encoder.embed_text([spec.queries[chosen].text])

    def apply(self, masks: Tensor) -> Tensor:
        """Waveforms of masks on the grid."""
        wide = self.spectral.from_grid(masks, CORPUS_RATE, self.spectrum.shape[-1])
        return self.spectral.istft(wide * self.spectrum, CORPUS_RATE, self.mixture.shape[-1])

    def reward(self, waves: Tensor, name: str, weights: dict[str, float]) -> Tensor:
        """Of waveforms `[b, n]`."""
        n = len(waves)
        anchor = self.text if "text" in name else self.anchor
        inputs = RewardInputs(
            waves,
            self.target.expand(n, -1),
            self.mixture.expand(n, -1),
            CORPUS_RATE,
            anchor.expand(n, -1),
            self.rest.expand(n, -1),
        )
        return weighted_reward(self.encoder, inputs, weights).total

    def attacks(self, name: str, weights: dict[str, float]) -> dict[str, Tensor]:
        """Waveform that each attack ends with."""
        start = self.apply(self.mask[None])
        return {
            "start": start,
            "gradient": self.ascend(name, weights),
            "random search": self.search(name, weights),
            "noise": self.add(torch.from_numpy(self.rng.standard_normal(start.shape)).float(), start, name, weights),
            "tone": self.add(
                torch.sin(torch.arange(start.shape[1]) * 2 * torch.pi * 1000 / CORPUS_RATE)[None], start, name, weights
            ),
        }

    def ascend(self, name: str, weights: dict[str, float]) -> Tensor:
        """Adam on the logits of the mask."""
        logits = self.mask.clamp(0.02, 0.98).logit()[None].requires_grad_()
        optimizer = torch.optim.Adam([logits], RATE_OF_CHANGE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (-self.reward(self.apply(torch.sigmoid(logits)), name, weights).sum()).backward()
            optimizer.step()
        return self.apply(torch.sigmoid(logits)).detach()

    @torch.no_grad()
    def search(self, name: str, weights: dict[str, float]) -> Tensor:
        """Keep the best of exploration samples, again and again."""
        mask, best = self.mask, self.reward(self.apply(self.mask[None]), name, weights)[0]
        for _ in range(SEARCHES):
            tried = explore_masks(mask, PER_SEARCH, rng=self.rng)
            rewards = self.reward(self.apply(tried), name, weights)
            if rewards.max() > best:
                mask, best = tried[int(rewards.argmax())], rewards.max()
        return self.apply(mask[None])

    @torch.no_grad()
    def add(self, sound: Tensor, start: Tensor, name: str, weights: dict[str, float]) -> Tensor:
        """A sound on top of the separation, at the level that the reward likes best."""
        sound = sound * start.square().mean().sqrt() / sound.square().mean().sqrt()
        tried = torch.cat([start + sound * 10 ** (level / 20) for level in LEVELS_DB])
        return tried[int(self.reward(tried, name, weights).argmax())][None]

    @torch.no_grad()
    def score(self, wave: Tensor, name: str, weights: dict[str, float], judge) -> dict[str, float]:
        """Reward, SI-SDR, what the judge says."""
        heard = judge(torch.cat([wave, self.target]), CORPUS_RATE).nan_to_num(0.0)
        return {
            "value": self.reward(wave, name, weights).item(),
            "si_sdr_db": si_sdr_db(wave, self.target).item(),
            "judge": float(heard[0] @ heard[1]),
        }


def summary(rows: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Means by reward and attack, and changes from the start with intervals."""
    table: dict = {}
    for reward in REWARDS:
        start = {row["mixture"]: row for row in rows if (row["reward"], row["attack"]) == (reward, "start")}
        for attack in ("start", "gradient", "random search", "noise", "tone"):
            chosen = [row for row in rows if (row["reward"], row["attack"]) == (reward, attack)]
            cell = {
                key: round(float(np.mean([row[key] for row in chosen])), 4) for key in ("value", "si_sdr_db", "judge")
            }
            for key in ("value", "si_sdr_db", "judge") if attack != "start" else ():
                interval = mean_interval([row[key] - start[row["mixture"]][key] for row in chosen])
                cell[f"{key}_change"] = [round(getattr(interval, part), 4) for part in ("mean", "low", "high")]
            table.setdefault(reward, {})[attack] = cell
    return table


def write_wave(path: Path, wave: Tensor) -> None:
    """16-bit file, to listen to."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave[0].clamp(-1, 1).numpy(), CORPUS_RATE)


if __name__ == "__main__":
    main()
