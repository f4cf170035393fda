"""A few validation mixtures on which a reinforced run is watched: reward, judge and the shape of the masks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.model import MaskNetwork, normalise
from marssep.policy.guard import Watched
from marssep.reward.grid import GridRewards, GridTruth
from marssep.spectral import Spectrogram
from marssep.train.examples import Embeddings

Judge = Callable[[Float[Tensor, "b n"], int], Float[Tensor, "b d"]]
"""Waveforms and their rate in Hz to unit-norm embeddings; its cosine with the target's must not be rewarded."""


class Probe:
    """Mixtures with one target each, asked for by name.

    Args:
        name: of a committed list.
        corpus: the recordings it names.
        bank: their embeddings.
        spectrogram: as in deployment.
        limit: mixtures used.
        number: of every label in the recogniser's list, if there is one.
    """

    def __init__(
        self,
        name: str,
        corpus: Corpus,
        bank: Embeddings,
        *,
        spectrogram: Spectrogram,
        limit: int,
        number: dict[str, int] | None = None,
    ) -> None:
        self.spectrogram = spectrogram
        self._targets: dict[int, Tensor] = {}
        self._cases = [
            self._prepare(spec, k, corpus, bank, number or {}) for k, spec in enumerate(read_list(name)[:limit])
        ]

    @torch.no_grad()
    def watch(self, network: MaskNetwork, rewards: GridRewards | None, judge: Judge | None = None) -> Watched:
        """Look at the proposals of a network in evaluation mode."""
        found: dict[str, list[float]] = {"reward": [], "judge": [], "contrast": [], "variation": []}
        for number, (mixture, target, query, truth) in enumerate(self._cases):
            mask = torch.sigmoid(network(truth.power, query).logits.float())
            if rewards is not None:
                found["reward"].append(float(rewards(mask[:, :, None], truth).total.mean()))
            found["contrast"].append(float((mask - 0.5).abs().mean()))
            found["variation"].append(float(mask.std()))
            if judge is not None:
                estimate = self.spectrogram.masked(mixture[0], mask[0], CORPUS_RATE)
                if number not in self._targets:
                    self._targets[number] = judge(target, CORPUS_RATE)
                found["judge"].append(float((judge(estimate, CORPUS_RATE) * self._targets[number]).sum()))
        means = {key: sum(values) / len(values) if values else None for key, values in found.items()}
        return Watched(means["reward"] or 0.0, means["judge"], means["contrast"] or 0.0, means["variation"] or 0.0)

    def _prepare(
        self, spec: MixtureSpec, index: int, corpus: Corpus, bank: Embeddings, number: dict[str, int]
    ) -> tuple[Tensor, Tensor, Tensor, GridTruth]:
        chosen = index % len(spec.sources)
        rendered = render(spec, corpus)
        mixture, target = torch.from_numpy(rendered.mixture)[None], torch.from_numpy(rendered.sources[chosen])[None]
        query = F.normalize(torch.from_numpy(bank.text(spec.queries[chosen].text)).float(), dim=-1)[None, None]
        truth = truth_of(
            mixture, target, name=query, label=number.get(spec.queries[chosen].label, -1), spectrogram=self.spectrogram
        )
        return mixture, target, query, truth


def truth_of(
    mixture: Float[Tensor, "1 n"],
    target: Float[Tensor, "q n"],
    *,
    name: Float[Tensor, "1 q d"],
    label: int | Tensor,
    spectrogram: Spectrogram,
) -> GridTruth:
    """What rewards must know of a mixture at the corpus rate and its targets; levels as the network wants them."""
    spectra = spectrogram.stft(torch.cat([mixture, target]), CORPUS_RATE)
    whole, own = spectra[:1], spectra[1:]
    cross = own.real * whole.real + own.imag * whole.imag
    power = spectrogram.to_grid(whole, CORPUS_RATE)
    scale = normalise(power)
    rows = spectrogram.row_scale(CORPUS_RATE)
    weight = spectrogram.row_bins(CORPUS_RATE)
    labels = torch.as_tensor(label).reshape(1, -1).expand(1, len(own))
    return GridTruth(
        power * scale,
        (spectrogram.to_grid(own, CORPUS_RATE) * scale)[None],
        (spectrogram.pool(cross, CORPUS_RATE) * rows * scale)[None],
        weight / weight.mean(),
        name,
        labels,
    )
