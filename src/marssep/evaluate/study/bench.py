"""The mixtures that every row of the study is scored on, prepared once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.metrics import si_sdr_improvement
from marssep.model import MaskNetwork, normalise
from marssep.query import Modality, QueryEncoder, fuse
from marssep.query.bank import EmbeddingBank
from marssep.reward.grid import GridTruth
from marssep.reward.recogniser import Recogniser
from marssep.spectral import Spectrogram
from marssep.train.probe import Judge

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
"""Logit scales that validation chooses from."""
KINDS = ("text", "audio", "image", "composed")
Refine = Callable[[Tensor, GridTruth], Tensor]
"""Logits `[1, q, bands, steps]` and what is known of the recording to other logits."""
Row = dict[str, float | str]
"""Scores of one query: mixture, kind, target, si_sdri and, where it was listened to, what the listeners say."""


@dataclass(frozen=True)
class Ears:
    """Who listens to the estimates, besides the signal metrics.

    Attributes:
        encoder: whose text similarity is reported; the separator's own query encoder.
        judge: independent; see `evaluate.judging`. One judge a bench: its embeddings of the targets are kept.
        recogniser: the forest.
    """

    encoder: QueryEncoder
    judge: Judge | None
    recogniser: Recogniser | None


@dataclass(frozen=True)
class _Case:
    name: str
    mixture: Tensor
    sources: Tensor
    power: Tensor
    query: Tensor
    kinds: tuple[str, ...]
    targets: tuple[int, ...]
    chosen: int
    label: str
    labels: tuple[str, ...]


class Bench:
    """Mixtures of a committed list with their queries by text, audio, image and all three.

    Args:
        name: of the list.
        corpus: the recordings it names.
        bank: their embeddings.
        spectrogram: as in deployment.
        limit: mixtures used.
        kinds: queries asked.
    """

    def __init__(
        self,
        name: str,
        corpus: Corpus,
        bank: EmbeddingBank,
        *,
        spectrogram: Spectrogram,
        limit: int,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.spectrogram, self.kinds = spectrogram, tuple(kinds)
        self._judged: dict[str, Tensor] = {}
        self.cases = [self._prepare(spec, k, corpus, bank) for k, spec in enumerate(read_list(name)[:limit])]

    @torch.no_grad()
    def scale_scores(self, network: MaskNetwork) -> dict[float, float]:
        """Mean SI-SDRi in dB of queries by text for every scale of the logits."""
        found: dict[float, list[float]] = {scale: [] for scale in SCALES}
        for case in self.cases:
            rows = [row for row, kind in enumerate(case.kinds) if kind == "text"]
            logits = network(case.power, case.query[:, rows]).logits[0].float()
            targets = case.sources[[case.targets[row] for row in rows]]
            for scale in SCALES:
                estimate = self.spectrogram.masked(case.mixture, torch.sigmoid(scale * logits), CORPUS_RATE)
                gain = si_sdr_improvement(estimate, targets, mixture=case.mixture.expand_as(estimate))
                found[scale].extend(gain.tolist())
        return {scale: float(np.mean(values)) for scale, values in found.items()}

    @torch.no_grad()
    def score(self, network: MaskNetwork, *, scale: float, ears: Ears, refine: Refine | None = None) -> list[Row]:
        """One row per query; the listeners hear one target per mixture, asked for by text.

        Args:
            network: in evaluation mode.
            scale: of the logits.
            ears: who listens.
            refine: changes the logits of the queries by text, mixture by mixture.
        """
        rows: list[Row] = []
        heard: list[tuple[Row, str, Tensor]] = []
        for case in self.cases:
            logits = scale * network(case.power, case.query).logits[0].float()
            if refine is not None:
                asked = [row for row, kind in enumerate(case.kinds) if kind == "text"]
                truth = self._unknown(case, asked, ears.recogniser)
                with torch.enable_grad():
                    logits[asked] = refine(logits[None, asked], truth)[0]
            rows += self._score(case, logits, ears=ears, heard=heard)
        if ears.recogniser is not None:
            _recognise(ears.recogniser, [entry for entry in heard if entry[1] in ears.recogniser.number])
        return rows

    def _score(self, case: _Case, logits: Tensor, *, ears: Ears, heard: list[tuple[Row, str, Tensor]]) -> list[Row]:
        """Rows of one mixture; what the recogniser is to hear is added to `heard`."""
        estimate = self.spectrogram.masked(case.mixture, torch.sigmoid(logits), CORPUS_RATE)
        targets = case.sources[list(case.targets)]
        gain = si_sdr_improvement(estimate, targets, mixture=case.mixture.expand_as(estimate))
        rows: list[Row] = []
        for row, (kind, target) in enumerate(zip(case.kinds, case.targets, strict=True)):
            found: Row = {
                "mixture": case.name,
                "kind": kind,
                "target": float(target),
                "si_sdri": float(gain[row]),
            }
            if kind == "text" and target == case.chosen:
                own = estimate[row : row + 1]
                found |= self._listen(own, targets[row : row + 1], case, name=case.query[:, row], ears=ears)
                power = self.spectrogram.to_grid(self.spectrogram.stft(own, CORPUS_RATE), CORPUS_RATE)
                heard.append((found, case.label, power[0]))
            rows.append(found)
        return rows

    @staticmethod
    def _unknown(case: _Case, rows: Sequence[int], recogniser: Recogniser | None) -> GridTruth:
        """What may be known of a recording when it is separated: its power and what is asked for."""
        number = recogniser.number if recogniser is not None else {}
        nothing = torch.zeros(1, len(rows), *case.power.shape[1:])
        labels = torch.tensor([[number.get(case.labels[case.targets[row]], -1) for row in rows]])
        weight = torch.ones(case.power.shape[1], 1)
        return GridTruth(case.power, nothing, nothing, weight, case.query[:, rows], labels)

    def _listen(self, estimate: Tensor, target: Tensor, case: _Case, *, name: Float[Tensor, "1 d"], ears: Ears) -> Row:
        embedding = ears.encoder.embed_audio(estimate, sample_rate=CORPUS_RATE)
        found: Row = {"text_similarity": float((embedding.float() * name).sum())}
        if ears.judge is not None:
            if case.name not in self._judged:
                self._judged[case.name] = ears.judge(target, CORPUS_RATE)
            found["judge"] = float((ears.judge(estimate, CORPUS_RATE) * self._judged[case.name]).sum())
        return found

    def _prepare(self, spec: MixtureSpec, index: int, corpus: Corpus, bank: EmbeddingBank) -> _Case:
        rendered = render(spec, corpus)
        mixture, sources = torch.from_numpy(rendered.mixture), torch.from_numpy(rendered.sources)
        power = self.spectrogram.to_grid(self.spectrogram.stft(mixture, CORPUS_RATE), CORPUS_RATE)[None]
        rows, kinds, targets = [], [], []
        for k, asked in enumerate(spec.queries):
            known: dict[Modality, Tensor] = {"text": _mean(bank.text(asked.text)[None])}
            if asked.audio:
                known["audio"] = _mean(bank.audio(asked.audio))
            if asked.image:
                known["image"] = _mean(bank.image(asked.image))
            found: dict[str, Tensor] = {str(name): place for name, place in known.items()} | {"composed": fuse(known)}
            for kind in self.kinds:
                if kind in found:
                    rows.append(found[kind])
                    kinds.append(kind)
                    targets.append(k)
        chosen = index % len(spec.sources)
        return _Case(
            spec.id,
            mixture,
            sources,
            power * normalise(power),
            torch.stack(rows)[None],
            tuple(kinds),
            tuple(targets),
            chosen,
            spec.sources[chosen].label,
            tuple(source.label for source in spec.sources),
        )


def _recognise(recogniser: Recogniser, heard: Sequence[tuple[Row, str, Tensor]]) -> None:
    """All at once: a forest takes as long for one sound as for a hundred."""
    if not heard:
        return
    chances = recogniser.probabilities(torch.stack([power for _, _, power in heard]))
    for (row, label, _), own in zip(heard, chances, strict=True):
        number = recogniser.number[label]
        row["recogniser"], row["recognised"] = float(own[number]), float(own.argmax() == number)


def _mean(rows: np.ndarray) -> Float[Tensor, " d"]:
    return F.normalize(torch.from_numpy(rows.astype(np.float32)).mean(0), dim=-1)
