"""When is the sound there? What is known of every second of a recording, and how sure that makes us."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from marssep.model import ModelConfig
from marssep.separate.chunks import QUIET

FLOOR_DB = -60.0
"""Of a target's level within a second relative to the recording's; below it nothing can be heard of it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What speaks for a sound, second by second; the last second may be shorter.

    Attributes:
        network: log-odds by the network's presence output, between the middles of its chunks; minus infinity where
            nothing can be heard.
        share_db: level of the target relative to the recording, at least `FLOOR_DB`.
        match: largest cosine between the query and the loudest stretches of the target, of the whole recording.
    """

    network: Float[Tensor, " s"]
    share_db: Float[Tensor, " s"]
    match: float

    def confidence(self, config: ModelConfig) -> list[float]:
        """Probability that the sound can be heard in each second: a logistic regression fitted on validation."""
        logit = config.second_bias + config.second_network * self.network + config.second_share * self.share_db
        return torch.sigmoid(logit + config.second_match * self.match).tolist()


@dataclass(slots=True)
class SecondLevels:
    """Energy of waveforms in every second, all channels together, as their samples come.

    Attributes:
        sample_rate: Hz.
    """

    sample_rate: int
    _energy: list[list[float]] = field(default_factory=list)

    def push(self, start: int, waveforms: Sequence[Float[Tensor, "c _"]]) -> None:
        """Take the next samples of every waveform.

        Args:
            start: of the first of them.
            waveforms: always as many, in the same order.
        """
        stop = start + waveforms[0].shape[-1]
        for second in range(start // self.sample_rate, -(-stop // self.sample_rate)):
            begin, end = (max(start, min(stop, edge * self.sample_rate)) - start for edge in (second, second + 1))
            while len(self._energy) <= second:
                self._energy.append([0.0] * len(waveforms))
            row = self._energy[second]
            for index, waveform in enumerate(waveforms):
                row[index] += float(waveform[:, begin:end].square().sum(dtype=torch.float64))

    def energies(self) -> Float[Tensor, "w s"]:
        """Of every waveform and second."""
        return torch.tensor(self._energy, dtype=torch.float64).T.float()


def shares_db(targets: Float[Tensor, "q s"], mixture: Float[Tensor, " s"]) -> Float[Tensor, "q s"]:
    """Levels of targets relative to the recording by their energies."""
    ratio = targets / mixture.clamp_min(torch.finfo(torch.float32).tiny)
    return 10.0 * ratio.clamp(10.0 ** (FLOOR_DB / 10.0), 10.0).log10()


def loudest_db(targets: Float[Tensor, "q s"], mixture: Float[Tensor, " s"], *, seconds: float) -> Float[Tensor, " q"]:
    """Level of targets relative to the recording in the stretch where that is highest, at least `FLOOR_DB`.

    Args:
        targets: energy in every second.
        mixture: the same of the recording; stretches 60 dB below its loudest one have no say.
        seconds: length of a stretch; shorter recordings are one stretch.
    """
    length = min(max(1, math.ceil(seconds)), mixture.shape[-1])
    own, whole = (each.double().unfold(-1, length, 1).sum(-1) for each in (targets, mixture))
    heard = whole > QUIET * whole.max()
    if not heard.any():
        return targets.new_full(targets.shape[:1], FLOOR_DB)
    return shares_db(own[:, heard], whole[heard]).amax(-1).float()


@dataclass(slots=True)
class GridLevels:
    """Energy of targets and recording in every second, from the masks and the power on the grid: known before a render.

    Attributes:
        weight: bins of every row, which turns mean power into energy.
        step_seconds: between two columns.
    """

    weight: Float[Tensor, "bands 1"]
    step_seconds: float
    _waiting: list[Tensor] = field(default_factory=list)
    _columns: int = 0
    # Numbers, not tensors: small ones that stay would keep memory of large ones that go from being used again.
    _energy: list[list[float]] = field(default_factory=list)

    def push(self, power: Float[Tensor, "bands _"]) -> None:
        """Take the next columns of the recording."""
        self._waiting.append(power * self.weight)

    def masked(self, masks: Float[Tensor, "q bands _"]) -> None:
        """Take the masks of as many of the columns that wait."""
        count = masks.shape[-1]
        if not count:
            return
        power = self._waiting[0] if len(self._waiting) == 1 else torch.cat(self._waiting, dim=-1)
        power, self._waiting = power[:, :count], [power[:, count:].clone()]
        energy = torch.cat([(masks.square() * power).sum(1), power.sum(0, keepdim=True)])
        places = ((torch.arange(count) + self._columns) * self.step_seconds).long()
        self._columns += count
        first = int(places[0])
        seconds = energy.new_zeros(len(energy), int(places[-1]) + 1 - first).index_add_(1, places - first, energy)
        rows = seconds.T.tolist()
        if len(self._energy) > first:  # a second that has begun
            rows[0] = [old + new for old, new in zip(self._energy.pop(), rows[0], strict=True)]
        self._energy.extend(rows)

    def energies(self) -> Float[Tensor, "w s"]:
        """Of every target and, last, of the recording."""
        return torch.tensor(self._energy).T


def over_seconds(
    logits: Float[Tensor, "k q"],
    starts: Int[Tensor, " k"],
    audible: Bool[Tensor, " k"],
    *,
    spans: tuple[float, float],
    seconds: float,
) -> Float[Tensor, "q s"]:
    """What chunks say as what can be said of every second: their mean under triangles, as masks are faded.

    Args:
        logits: of every chunk and query.
        starts: first column of every chunk.
        audible: which chunks have a say.
        spans: duration of a column and of a chunk, seconds.
        seconds: duration of the recording.
    """
    step, width = spans
    n_seconds = max(1, math.ceil(seconds))
    first = torch.arange(n_seconds, dtype=torch.float64)
    middles = (first + (first + 1.0).clamp_max(seconds)) / 2.0
    total, weights = logits.new_zeros(logits.shape[1], n_seconds), logits.new_zeros(n_seconds)
    for logit, start, heard in zip(logits, starts.tolist(), audible.tolist(), strict=True):
        begin = start * step
        near = slice(max(0, math.floor(begin - 1.0)), math.ceil(begin + width) + 1)
        reach = (1.0 - (middles[near] - begin - width / 2.0).abs() / (width / 2.0)).clamp_min(0.0).float()
        if heard and reach.numel():
            total[:, near] += logit[:, None] * reach
            weights[near] += reach
    return torch.where(weights > 0, total / weights.clamp_min(1e-12), -math.inf)
