"""Validation during training: SI-SDR improvement on committed lists, through the same path a user gets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.metrics import si_sdr_improvement
from marssep.model import MaskNetwork, MaskOutput, normalise
from marssep.spectral import Spectrogram
from marssep.train.examples import Embeddings


@dataclass(frozen=True, slots=True)
class _Case:
    """One mixture, ready to separate."""

    mixture: Tensor
    sources: Tensor
    queries: dict[str, tuple[list[int], Tensor]]
    absent: Tensor


class Validator:
    """Separates the first mixtures of a list by every modality.

    Args:
        name: of a committed list, or a path.
        corpus: the recordings it names.
        bank: their embeddings.
        spectrogram: from waveform to grid, as in deployment.
        limit: mixtures used.
    """

    def __init__(self, name: str, corpus: Corpus, bank: Embeddings, *, spectrogram: Spectrogram, limit: int) -> None:
        self.name, self.spectrogram = name, spectrogram
        self._cases = [_prepare(spec, corpus, bank) for spec in read_list(name)[:limit]]

    @torch.no_grad()
    @torch.backends.cudnn.flags(enabled=True, benchmark=False)  # every number of queries is a shape of its own
    def run(self, network: MaskNetwork) -> dict[str, float]:
        """Mean SI-SDRi in dB by modality, and the area under the presence output's ROC curve."""
        training = network.training
        network.eval()
        device = next(network.parameters()).device
        scores: dict[str, list[float]] = {"text": [], "audio": [], "image": []}
        present: list[float] = []
        absent: list[float] = []
        for case in self._cases:
            spectrum = self.spectrogram.stft(case.mixture, CORPUS_RATE)
            power = self.spectrogram.to_grid(spectrum, CORPUS_RATE)[None]
            power = power * normalise(power)
            query = torch.cat([*(rows for _, rows in case.queries.values()), case.absent])
            output = network(power.to(device), query[None].to(device))
            output = MaskOutput(output.logits.float().cpu(), output.presence.cpu())
            mask = self.spectrogram.from_grid(torch.sigmoid(output.logits[0]), CORPUS_RATE, spectrum.shape[-1])
            estimate = self.spectrogram.istft(mask * spectrum, CORPUS_RATE, case.mixture.shape[-1])
            row = 0
            for name, (sources, _) in case.queries.items():
                rows = estimate[row : row + len(sources)]
                gain = si_sdr_improvement(rows, case.sources[sources], mixture=case.mixture.expand_as(rows))
                scores[name].extend(gain.tolist())
                if name == "text":
                    present.extend(output.presence[0, row : row + len(sources)].tolist())
                row += len(sources)
            absent.extend(output.presence[0, row:].tolist())
        network.train(training)
        figures = {f"{self.name}/{name}": float(np.mean(values)) for name, values in scores.items() if values}
        return figures | {f"{self.name}/presence_auc": _area(present, absent)}


def validate(validators: Iterable[Validator], network: MaskNetwork) -> dict[str, float]:
    """Figures of all lists, as `Validator.run` has them."""
    figures: dict[str, float] = {}
    for validator in validators:
        figures |= validator.run(network)
    return figures


def mean_improvement(figures: Mapping[str, float], *, kinds: tuple[str, ...] = ("text",)) -> float:
    """Mean SI-SDRi in dB over lists and kinds of query; a kind that a list does not have does not count.

    Args:
        figures: from `validate`.
        kinds: of query.
    """
    found = [value for name, value in figures.items() if name.rpartition("/")[2] in kinds]
    return sum(found) / len(found)


def _prepare(spec: MixtureSpec, corpus: Corpus, bank: Embeddings) -> _Case:
    rendered = render(spec, corpus)
    hears, sees = "audio" in bank.modalities, "image" in bank.modalities
    lookups: dict[str, list[np.ndarray | None]] = {
        "text": [bank.text(query.text)[None] for query in spec.queries],
        "audio": [bank.audio(query.audio) if query.audio and hears else None for query in spec.queries],
        "image": [bank.image(query.image) if query.image and sees else None for query in spec.queries],
    }
    queries = {}
    for name, found in lookups.items():
        vectors = {index: rows.astype(np.float32).mean(0) for index, rows in enumerate(found) if rows is not None}
        if vectors:
            queries[name] = (list(vectors), _unit(np.stack(list(vectors.values()))))
    absent = np.asarray(bank.text(spec.absent.text), np.float32)[None] if spec.absent else np.zeros((0, 1), np.float32)
    width = next(iter(queries.values()))[1].shape[1]
    return _Case(
        torch.from_numpy(rendered.mixture),
        torch.from_numpy(rendered.sources),
        queries,
        _unit(absent) if len(absent) else torch.zeros(0, width),
    )


def _unit(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def _area(present: list[float], absent: list[float]) -> float:
    """Chance that a present sound scores above an absent one."""
    if not present or not absent:
        return float("nan")
    a, b = np.array(present)[:, None], np.array(absent)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())
