"""Rewards of masks, taken on the grid: no inverse STFT, so a hundred of them cost less than one step of the separator.

The masked mixture has the power m^2 |X|^2 in a cell (exact where the mask is smooth), and with the cross-power of
target and mixture also its error is known on the grid (`GridTruth`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from marssep.errors import SettingsError
from marssep.reward.recogniser import Recogniser
from marssep.reward.student import GridStudent
from marssep.settings import Settings

_SPAN_DB = 30.0
_BATCH = 512  # sounds at once: bounds the memory of large groups


class GridRewardSettings(Settings):
    """What is rewarded."""

    weights: dict[Literal["cosine", "margin", "text", "si_sdr", "log_magnitude", "recogniser"], float] = {"cosine": 1.0}
    """Weight of every reward, see `GRID_REWARDS`."""
    anchor: Literal["audio", "text", "mean"] = "mean"
    """z* of `cosine` and `margin`: the target's own sound, its name, or the mean of both."""


@dataclass(frozen=True)
class GridTruth:
    """What the right answers are, per query.

    Attributes:
        power: of the mixture, mean per cell.
        target_power: of the target.
        cross_power: real part of conjugate target times mixture.
        cell_weight: bins per row.
        name: embedding of the target's name by the query encoder, unit norm.
        label: number of the target's label in the recogniser's list, -1 if it has none.
    """

    power: Float[Tensor, "b bands steps"]
    target_power: Float[Tensor, "b q bands steps"]
    cross_power: Float[Tensor, "b q bands steps"]
    cell_weight: Float[Tensor, "bands 1"]
    name: Float[Tensor, "b q d"]
    label: Int[Tensor, "b q"]

    def rest_power(self) -> Float[Tensor, "b q bands steps"]:
        """Of everything but the target."""
        return (self.power[:, None] - 2.0 * self.cross_power + self.target_power).clamp_min(0.0)


@dataclass(frozen=True)
class GridReward:
    """Weighted sum and parts, per mask.

    Attributes:
        total: weighted sum.
        components: every part before its weight.
    """

    total: Float[Tensor, "b q g"]
    components: dict[str, Tensor]


class GridRewards:
    """Scores masks; differentiable in them but for the recogniser.

    Args:
        settings: what is rewarded.
        student: of the reward encoder; needed for `cosine`, `margin` and `text`.
        recogniser: needed for `recogniser`.

    Raises:
        SettingsError: nothing is rewarded, or what a reward needs is missing.
    """

    def __init__(
        self, settings: GridRewardSettings, *, student: GridStudent | None = None, recogniser: Recogniser | None = None
    ) -> None:
        if not settings.weights:
            raise SettingsError(f"reward.weights is empty; weigh at least one of {', '.join(GRID_REWARDS)}.")
        if student is None and settings.weights.keys() & {"cosine", "margin", "text"}:
            raise SettingsError("reward.weights names a similarity, which needs the student of a reward encoder.")
        if recogniser is None and "recogniser" in settings.weights:
            raise SettingsError("reward.weights names the recogniser, and there is none; fit one first.")
        self.settings, self.student, self.recogniser = settings, student, recogniser

    def __call__(self, masks: Float[Tensor, "b q g bands steps"], truth: GridTruth) -> GridReward:
        """Reward of every mask."""
        made = masks.square() * truth.power[:, None, None]
        placed = self._place(made) if self.student is not None and self._similar() else None
        scored = _Scored(masks, made, placed, truth, self)
        components = {name: GRID_REWARDS[name](scored) for name in self.settings.weights}
        total = torch.stack([self.settings.weights[name] * value for name, value in components.items()]).sum(0)
        return GridReward(total, {name: value.detach() for name, value in components.items()})

    def anchor(self, truth: GridTruth, *, rest: bool = False) -> Float[Tensor, "b q d"]:
        """z* of every query: what its target, or all but its target, should sound like."""
        assert self.student is not None
        with torch.no_grad():
            own = self._place((truth.rest_power() if rest else truth.target_power)[:, :, None])[:, :, 0]
            if rest or self.settings.anchor == "audio":
                return own
            name = self.student.place_name(truth.name.flatten(0, 1)).unflatten(0, truth.name.shape[:2])
            return name if self.settings.anchor == "text" else F.normalize(own + name, dim=-1)

    def _place(self, power: Float[Tensor, "b q g bands steps"]) -> Float[Tensor, "b q g d"]:
        assert self.student is not None
        flat = torch.cat([self.student(part) for part in power.flatten(0, 2).split(_BATCH)])
        return flat.unflatten(0, power.shape[:3])

    def _similar(self) -> bool:
        return bool(self.settings.weights.keys() & {"cosine", "margin", "text"})


@dataclass(frozen=True)
class _Scored:
    """Masks and what is known of them."""

    masks: Tensor
    made: Tensor
    placed: Tensor | None
    truth: GridTruth
    rewards: GridRewards


def _cosine(scored: _Scored) -> Tensor:
    """Similarity to z* (Eq. 5)."""
    return _near(scored, scored.rewards.anchor(scored.truth))


def _margin(scored: _Scored) -> Tensor:
    """The same less the similarity to what else sounds, halved."""
    rest = scored.rewards.anchor(scored.truth, rest=True)
    return (_cosine(scored) - _near(scored, rest)) / 2


def _text(scored: _Scored) -> Tensor:
    """Similarity to the name alone, in the first part of the embedding."""
    student, truth = scored.rewards.student, scored.truth
    assert student is not None
    return _near(scored, student.place_name(truth.name.flatten(0, 1)).unflatten(0, truth.name.shape[:2]))


def _si_sdr(scored: _Scored) -> Tensor:
    """SI-SDR on the grid, held within plus or minus 30 dB and divided by it."""
    truth = scored.truth
    weight = truth.cell_weight
    inner = (scored.masks * truth.cross_power[:, :, None] * weight).sum((-2, -1))
    energy = (scored.made * weight).sum((-2, -1))
    own = (truth.target_power * weight).sum((-2, -1)).clamp_min(1e-8)[..., None]
    explained = inner.square() / own
    ratio = (explained + 1e-3 * energy) / ((energy - explained).clamp_min(0.0) + 1e-3 * explained + 1e-9 * own)
    return (10.0 / _SPAN_DB * torch.log10(ratio.clamp_min(1e-12))).clamp(-1.0, 1.0)


def _log_magnitude(scored: _Scored) -> Tensor:
    """Minus the mean difference of log magnitudes, weighted by those of the mixture."""
    weight = torch.log1p(scored.truth.power.sqrt())[:, None, None]
    wanted = torch.log1p((scored.truth.target_power + 1e-12).sqrt())[:, :, None]
    error = (torch.log1p((scored.made + 1e-12).sqrt()) - wanted).abs()
    return -(error * weight).mean((-2, -1)) / weight.mean((-2, -1)).clamp_min(1e-8)


def _recogniser(scored: _Scored) -> Tensor:
    """Probability that the recogniser gives the right label; no gradient."""
    recogniser = scored.rewards.recogniser
    assert recogniser is not None
    label = scored.truth.label[..., None].expand(scored.made.shape[:3])
    found = recogniser.chance_of(scored.made.detach().flatten(0, 2), label.flatten())
    return found.unflatten(0, scored.made.shape[:3])


def _near(scored: _Scored, anchor: Float[Tensor, "b q d"]) -> Tensor:
    assert scored.placed is not None
    return (scored.placed * anchor[:, :, None]).sum(-1)


GRID_REWARDS: Mapping[str, Callable[[_Scored], Tensor]] = {
    "cosine": _cosine,
    "margin": _margin,
    "text": _text,
    "si_sdr": _si_sdr,
    "log_magnitude": _log_magnitude,
    "recogniser": _recogniser,
}


def block_snr(
    masks: Float[Tensor, "b q g bands steps"], truth: GridTruth, *, blocks: int
) -> Float[Tensor, "b q g blocks blocks"]:
    """Signal-to-noise ratio of every block of the grid, held and divided as SI-SDR: the local reward.

    Noise is the error |m X - S|^2, known on the grid; signal is the louder of target and mixture, which keeps blocks
    without target from being worth nothing.
    """
    error = masks.square() * truth.power[:, None, None] - 2.0 * masks * truth.cross_power[:, :, None]
    error = (error + truth.target_power[:, :, None]).clamp_min(0.0) * truth.cell_weight
    loud = torch.maximum(truth.target_power, truth.power[:, None]) * truth.cell_weight
    size = (blocks, blocks)
    noise = F.adaptive_avg_pool2d(error.flatten(0, 2), size).unflatten(0, masks.shape[:3])
    signal = F.adaptive_avg_pool2d(loud, size)[:, :, None]
    ratio = 10.0 * torch.log10((signal + 1e-10) / (noise + 1e-10))
    return torch.where(signal > 1e-10, (ratio / _SPAN_DB).clamp(-1.0, 1.0), 0.0)
