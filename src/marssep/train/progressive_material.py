"""Mixtures with separations of every quality, as the reward encoder must rank them: rendered, scored, reduced."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.metrics import si_sdr_db
from marssep.model import LoadedModel
from marssep.query import QueryEncoder
from marssep.reward.detail import detail_grid
from marssep.reward.exploration import explore_masks
from marssep.reward.signal import (
    block_energy,
    local_log_magnitude_reward,
    local_snr_reward,
    log_magnitude_reward,
    si_sdr_reward,
)
from marssep.separate.blocks import apply_mask, grid_power
from marssep.separate.chunks import cross_fade, hear

BANDS, SEGMENTS = 64, 32
"""Grid that is kept of every waveform; an encoder may pool it further."""
KINDS = ("target", "mixture", "other", "separator", "ladder", "disturbed", "explored")
_BATCH = 16
_LATE, _HIGH = 12, 12  # columns and rows a mask is shifted by at most


@dataclass(frozen=True, slots=True)
class Counts:
    """How many separations of each kind a mixture gets.

    Attributes:
        ladder: on the way from the ideal mask to its inverse, evenly.
        disturbed: ideal or separator's masks spoilt block by block, shifted, or mixed with doing nothing.
        explored: samples of the policy around the separator's mask.
        signals: compute the rewards that compare signals, too.
    """

    ladder: int
    disturbed: int
    explored: int
    signals: bool = False


TRAIN_COUNTS = Counts(ladder=4, disturbed=4, explored=6)
REPORT_COUNTS = Counts(ladder=9, disturbed=6, explored=8, signals=True)


@dataclass(frozen=True)
class Separations:
    """Separations of one mixture for one of its sources; the first three are target, mixture and what else sounds.

    Attributes:
        name: of the mixture in its list.
        label: of the target.
        picture: id of a picture of the target, empty if the list has none.
        other: label of the loudest other source.
        kinds: k of `KINDS`.
        features: of the trunk.
        grids: relative power by band and segment, to the power of a quarter.
        si_sdr: dB; of the target itself 100.
        signals: rewards that compare signals, by name, `[k]`.
    """

    name: str
    label: str
    picture: str
    other: str
    kinds: tuple[str, ...]
    features: Float[Tensor, "k f"]
    grids: Float[Tensor, "k bands segments"]
    si_sdr: Float[Tensor, " k"]
    signals: dict[str, Tensor]

    def rows(self, *kinds: str) -> list[int]:
        """Which separations are of these kinds."""
        return [row for row, kind in enumerate(self.kinds) if kind in kinds]


@dataclass(frozen=True)
class Rendered:
    """Waveforms of the separations of one mixture, in the order of `Separations`.

    Attributes:
        waves: target, mixture, what else sounds, estimates.
        kinds: k of `KINDS`.
        chosen: which source is the target.
    """

    waves: Float[Tensor, "k n"]
    kinds: tuple[str, ...]
    chosen: int


@torch.no_grad()
def render_separations(
    spec: MixtureSpec, corpus: Corpus, model: LoadedModel, encoder: QueryEncoder, *, counts: Counts, seed: int
) -> Rendered:
    """Render a mixture and separate it in many ways.

    Args:
        spec: its target is the source number `seed` modulo their number.
        corpus: where the recordings are.
        model: the separator.
        encoder: that the separator was trained with.
        counts: how many separations of each kind.
        seed: of everything random.
    """
    rng = np.random.default_rng((2718, seed))
    rendered = render(spec, corpus)
    chosen = seed % len(spec.sources)
    target, mixture = (torch.from_numpy(wave) for wave in (rendered.sources[chosen], rendered.mixture))
    query = encoder.embed_text([spec.queries[chosen].text])
    masks = _masks(target, mixture, model=model, query=query, counts=counts, rng=rng)
    estimates = [apply_mask(mixture[None], mask, CORPUS_RATE, model.spectral)[0] for mask in masks.values()]
    kinds = ("target", "mixture", "other", *(name.split("-")[0] for name in masks))
    return Rendered(torch.stack([target, mixture, mixture - target, *estimates]), kinds, chosen)


@torch.no_grad()
def make_separations(
    spec: MixtureSpec, corpus: Corpus, model: LoadedModel, encoder: QueryEncoder, *, counts: Counts, seed: int
) -> Separations:
    """Render a mixture, separate it in many ways, score and reduce everything; arguments as `render_separations`."""
    rendered = render_separations(spec, corpus, model, encoder, counts=counts, seed=seed)
    waves, chosen = rendered.waves, rendered.chosen
    target, mixture = waves[:1], waves[1:2]
    others = [source for k, source in enumerate(spec.sources) if k != chosen]
    loudest = max(others, key=lambda source: source.level_db).label if others else ""
    return Separations(
        name=spec.id,
        label=spec.sources[chosen].label,
        picture=spec.queries[chosen].image or "",
        other=loudest,
        kinds=rendered.kinds,
        features=torch.cat([encoder.audio_features(part, CORPUS_RATE) for part in waves.split(_BATCH)]),
        grids=detail_grid(waves, CORPUS_RATE, bands=BANDS, segments=SEGMENTS).pow(0.25),
        si_sdr=si_sdr_db(waves, target),
        signals=_signals(waves, target, mixture) if counts.signals else {},
    )


def _masks(
    target: Tensor, mixture: Tensor, *, model: LoadedModel, query: Tensor, counts: Counts, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Masks on the grid by `kind-number`."""
    spectral = model.spectral
    power = grid_power(mixture[None], CORPUS_RATE, spectral)
    wanted, rest = (grid_power(wave[None], CORPUS_RATE, spectral).sqrt() for wave in (target, mixture - target))
    ideal = wanted / (wanted + rest).clamp_min(1e-8)
    heard = hear(model.network, power, query, chunk_steps=model.config.chunk_steps)
    ours = cross_fade(torch.sigmoid(heard.logits[:, 0]), heard.starts, n_steps=power.shape[-1])
    masks = {"separator-0": ours}
    for step, share in enumerate(np.linspace(0.0, 0.9, counts.ladder) if counts.ladder else ()):
        masks[f"ladder-{step}"] = (1 - float(share)) * ideal + float(share) * (1 - ideal)
    for number in range(counts.disturbed):
        masks[f"disturbed-{number}"] = disturb(ideal if rng.random() < 0.7 else ours, rng)
    for number, mask in enumerate(explore_masks(ours, counts.explored, rng=rng) if counts.explored else ()):
        masks[f"explored-{number}"] = mask
    return masks


def disturb(mask: Float[Tensor, "bands steps"], rng: np.random.Generator) -> Float[Tensor, "bands steps"]:
    """Spoil a mask in one of five ways by a random amount."""
    way, amount = int(rng.integers(5)), float(rng.uniform(0.1, 0.9))
    if way == 0:  # some blocks become something else altogether
        shape = (-(-mask.shape[0] // 8), -(-mask.shape[1] // 8))
        blocks, struck = rng.random((8, 8)), rng.random((8, 8)) < amount
        wide = [np.kron(values, np.ones(shape)) for values in (struck, blocks)]
        hit, field = (torch.from_numpy(each[: mask.shape[0], : mask.shape[1]]).float() for each in wide)
        return torch.where(hit > 0, field, mask)
    if way == 1:  # part of it is doing nothing
        return (1 - amount) * mask + amount
    if way == 2:  # late
        return mask.roll(max(1, round(amount * _LATE)), dims=1)
    if way == 3:  # too high
        return mask.roll(max(1, round(amount * _HIGH)), dims=0)
    return (mask > amount).float()  # hard


def _signals(waves: Tensor, target: Tensor, mixture: Tensor) -> dict[str, Tensor]:
    energy = block_energy(mixture, CORPUS_RATE)
    local = {
        "local_snr": local_snr_reward(waves, target, mixture=mixture, sample_rate=CORPUS_RATE),
        "local_log_magnitude": local_log_magnitude_reward(waves, target, mixture=mixture, sample_rate=CORPUS_RATE),
    }
    return {
        "si_sdr": si_sdr_reward(waves, target),
        "log_magnitude": log_magnitude_reward(waves, target, mixture=mixture, sample_rate=CORPUS_RATE),
        **{name: (blocks * energy).sum((1, 2)) for name, blocks in local.items()},
    }
