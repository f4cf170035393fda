"""Two questions that the paper leaves open: what to deploy of a policy, and which modality wins when they disagree."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.labels import family_of
from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, QuerySpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.metrics import level_db, mean_interval, si_sdr_db, si_sdr_improvement
from marssep.model import MaskNetwork, normalise
from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.exploration import ExplorationSettings, explore
from marssep.query import QueryEncoder
from marssep.query.bank import EmbeddingBank
from marssep.spectral import Spectrogram

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the first modality; the second has the rest."""
PAIRS = (("text", "image"), ("text", "audio"), ("audio", "image"))
_SAMPLES = 16


class Questions:
    """A list of mixtures and a separator to ask.

    Args:
        network: in evaluation mode.
        spectrogram: as in deployment.
        corpus: the recordings of the list.
        bank: their embeddings.
    """

    def __init__(self, network: MaskNetwork, spectrogram: Spectrogram, corpus: Corpus, bank: EmbeddingBank) -> None:
        self.network, self.spectrogram, self.corpus, self.bank = network, spectrogram, corpus, bank

    @torch.no_grad()
    def inference(
        self, name: str, *, mixtures: int, encoder: QueryEncoder, concentrations: Sequence[float] = (9.0, 30.0)
    ) -> list[dict[str, Any]]:
        """SI-SDRi and text similarity of the mode, of the mean and of single samples, by way of drawing.

        The spread of a row is the standard deviation over 16 samples of one mixture, averaged over mixtures.
        """
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        for number, spec in enumerate(read_list(name)[:mixtures]):
            chosen = number % len(spec.sources)
            mixture, sources = self._render(spec)
            query = _unit(self.bank.text(spec.queries[chosen].text))
            proposal = torch.sigmoid(self._logits(mixture, query[None]))
            masks = {"mode": proposal}
            for k in concentrations:
                policy = BetaMaskPolicy.around(proposal, k)
                masks[f"mean, k = {k:g}"] = policy.mean()
                for kind in ("independent", "blockwise"):
                    settings = ExplorationSettings(kind=kind)  # type: ignore[arg-type]
                    generator = torch.Generator().manual_seed(number)
                    masks[f"sample, {kind}, k = {k:g}"] = explore(policy, _SAMPLES, settings, generator=generator)[0]
            for way, mask in masks.items():
                estimate = self.spectrogram.masked(mixture[0], mask, CORPUS_RATE)
                target = sources[chosen].expand_as(estimate)
                gain = si_sdr_improvement(estimate, target, mixture=mixture.expand_as(estimate))
                heard = encoder.embed_audio(estimate, sample_rate=CORPUS_RATE).float() @ query
                spread = [float(each.std(correction=0)) for each in (gain, heard)]
                found.setdefault(way, []).append((float(gain.mean()), spread[0], float(heard.mean()), spread[1]))
        rows = []
        for way, values in found.items():
            gain, gain_spread, text, text_spread = np.array(values).T
            rows.append(
                {
                    "way": way,
                    "si_sdri": asdict(mean_interval(gain)),
                    "si_sdri_spread": round(float(gain_spread.mean()), 3),
                    "text_similarity": asdict(mean_interval(text)),
                    "text_similarity_spread": round(float(text_spread.mean()), 4),
                }
            )
        return rows

    @torch.no_grad()
    def conflicts(self, name: str, *, mixtures: int) -> list[dict[str, Any]]:
        """Two modalities that ask for different sounds, by weight, on mixtures that hold both, one or neither.

        `first_wins`: share of mixtures whose estimate has the higher SI-SDR towards the first modality's sound.
        `level`: of the estimate relative to the mixture, dB.
        """
        specs = read_list(name)[:mixtures]
        rows = []
        for pair in PAIRS:
            for holds in ("both", "first", "second", "neither"):
                per_share: dict[float, list[tuple[float, float, float]]] = {share: [] for share in SHARES}
                for number, spec in enumerate(specs):
                    asked = _asked(spec, specs[(number + 1) % len(specs)], holds)
                    places = asked and [self._place(query, kind) for query, kind in zip(asked, pair, strict=True)]
                    if not places or any(place is None for place in places):
                        continue
                    mixture, sources = self._render(spec)
                    one, two = (place for place in places if place is not None)
                    queries = torch.stack([F.normalize(s * one + (1 - s) * two, dim=-1) for s in SHARES])
                    masks = torch.sigmoid(self._logits(mixture, queries))
                    estimates = self.spectrogram.masked(mixture[0], masks, CORPUS_RATE)
                    for share, scores in zip(SHARES, self._judge(estimates, mixture, sources, holds), strict=True):
                        per_share[share].append(scores)
                rows += [_row(pair, holds, share, values) for share, values in per_share.items() if values]
        return rows

    def _judge(
        self, estimates: Float[Tensor, "q n"], mixture: Tensor, sources: Float[Tensor, "s n"], holds: str
    ) -> list[tuple[float, float, float]]:
        """SI-SDRi towards the first and second modality's sound (NaN where it is absent), and the level."""
        wide = mixture.expand_as(estimates)
        level = level_db(estimates) - level_db(wide)
        gains = []
        for position, present in enumerate((holds in ("both", "first"), holds in ("both", "second"))):
            # with one of the two present, it is the mixture's first source
            source = sources[position if holds == "both" else 0].expand_as(estimates)
            gain = si_sdr_db(estimates, source) - si_sdr_db(wide, source)
            gains.append(gain if present else torch.full_like(gain, torch.nan))
        return list(zip(gains[0].tolist(), gains[1].tolist(), level.tolist(), strict=True))

    def _place(self, query: QuerySpec, kind: str) -> Float[Tensor, " d"] | None:
        if kind == "text":
            return _unit(self.bank.text(query.text))
        item = query.audio if kind == "audio" else query.image
        if item is None:
            return None
        rows = self.bank.audio(item) if kind == "audio" else self.bank.image(item)
        return _unit(rows.astype(np.float32).mean(0))

    def _render(self, spec: MixtureSpec) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "s n"]]:
        rendered = render(spec, self.corpus)
        return torch.from_numpy(rendered.mixture)[None], torch.from_numpy(rendered.sources)

    def _logits(self, mixture: Float[Tensor, "1 n"], query: Float[Tensor, "q d"]) -> Float[Tensor, "q bands steps"]:
        power = self.spectrogram.to_grid(self.spectrogram.stft(mixture, CORPUS_RATE), CORPUS_RATE)
        return self.network(power * normalise(power), query[None]).logits[0].float()


def _asked(spec: MixtureSpec, other: MixtureSpec, holds: str) -> tuple[QuerySpec, QuerySpec] | None:
    """What the two modalities ask for; absent sounds are of families that the mixture does not have."""
    families = {family_of(query.label) for query in spec.queries}
    absent = [
        each for each in (spec.absent, other.absent) if each is not None and family_of(each.label) not in families
    ]
    if holds == "both":
        return spec.queries[0], spec.queries[1]
    if holds == "neither":
        different = len(absent) == 2 and absent[0].label != absent[1].label
        return (absent[0], absent[1]) if different else None
    if not absent:
        return None
    return (spec.queries[0], absent[0]) if holds == "first" else (absent[0], spec.queries[0])


def _row(
    pair: tuple[str, str], holds: str, share: float, values: Sequence[tuple[float, float, float]]
) -> dict[str, Any]:
    first, second, level = np.array(values).T
    row: dict[str, Any] = {"first": pair[0], "second": pair[1], "holds": holds, "weight_of_first": share}
    row["n"] = len(values)
    if holds == "both":
        row["first_wins"] = asdict(mean_interval((first > second).astype(float)))
    for key, gains in (("si_sdri_first", first), ("si_sdri_second", second)):
        if np.isfinite(gains).any():
            row[key] = asdict(mean_interval(gains))
    row["level"] = asdict(mean_interval(np.maximum(level, -80.0)))
    return row


def _unit(vector: np.ndarray) -> Float[Tensor, " d"]:
    return F.normalize(torch.from_numpy(vector.astype(np.float32)), dim=-1)
