"""Losses of the supervised program, all taken on the grid."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from marssep.model import MaskOutput
from marssep.train.settings import LossSettings

_LOG10 = 2.302585092994046
_SOME = 1e-8  # of nothing, whose sum is 0 too; below any share that one query of many processes' batch can have


@dataclass(frozen=True, slots=True)
class GridTargets:
    """What the right answers look like on the grid.

    Attributes:
        power: mean power of the mixture per cell.
        target_power: the same of each query's target; zero for absent sounds.
        cross_power: mean real part of conjugate target times mixture per cell.
        cell_weight: bins per row, which turns means per cell into sums over the spectrogram.
        present: whether the sound of each query is in the mixture.
    """

    power: Float[Tensor, "b bands steps"]
    target_power: Float[Tensor, "b q bands steps"]
    cross_power: Float[Tensor, "b q bands steps"]
    cell_weight: Float[Tensor, "bands 1"]
    present: Bool[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Weighted sum and parts of the supervised loss.

    Attributes:
        loss: what is minimised.
        cross_entropy: weighted binary cross-entropy of the mask.
        si_sdr: mean SI-SDR in dB of present queries, taken on the grid.
        suppression: mean level in dB, relative to the mixture, of what is put out for absent queries.
        presence: cross-entropy of the presence output.
    """

    loss: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    si_sdr: Float[Tensor, ""]
    suppression: Float[Tensor, ""]
    presence: Float[Tensor, ""]


def supervised_loss(
    output: MaskOutput,
    targets: GridTargets,
    settings: LossSettings,
    *,
    average: Callable[[Tensor], Tensor] = lambda normaliser: normaliser,
) -> LossTerms:
    """Lower is better: cross-entropy to the ideal mask minus SI-SDR plus what absent and presence outputs cost.

    Args:
        output: of the network.
        targets: of the same mixtures.
        settings: weights of the parts.
        average: mean over the processes that hold equal parts of the batch (`World.average`). What sums are divided by
            goes through it, so that the mean of the processes' losses is the loss of the whole batch.
    """
    logits = output.logits.float()
    if output.noise is None:
        cross_entropy = mask_cross_entropy(logits, targets, ideal_mask(targets, settings.mask), average=average)
    else:
        cross_entropy = noise_invariant_entropy(logits, output.noise.float(), targets, settings, average=average)
    present, absent = targets.present.float(), 1.0 - targets.present.float()
    mask = torch.sigmoid(logits)
    si_sdr = (grid_si_sdr(mask, targets) * present).sum() / average(present.sum()).clamp_min(_SOME)
    level = grid_level_db(mask, targets).clamp_min(-settings.suppression_goal_db)
    suppression = (level * absent).sum() / average(absent.sum()).clamp_min(_SOME)
    presence = F.binary_cross_entropy_with_logits(output.presence.float(), present)
    loss = settings.cross_entropy * cross_entropy - settings.si_sdr * si_sdr
    # Each absent query weighs as much as a present one, however few of them the batch has.
    loss = loss + settings.suppression * suppression * average(absent.mean()) + settings.presence * presence
    if output.noise is not None:
        loss = loss + settings.noise * _excess_activation(output.noise.float(), settings.noise_goal, average)
    return LossTerms(loss, cross_entropy.detach(), si_sdr.detach(), suppression.detach(), presence.detach())


def mask_cross_entropy(
    logits: Float[Tensor, "b q bands steps"],
    targets: GridTargets,
    ideal: Float[Tensor, "b q bands steps"],
    *,
    average: Callable[[Tensor], Tensor] = lambda normaliser: normaliser,
) -> Float[Tensor, ""]:
    """Binary cross-entropy to what would be right, weighted by log1p of the mixture's magnitude as the ancestors do."""
    weight = _cell_weight(targets)
    entropy = F.binary_cross_entropy_with_logits(logits, ideal, reduction="none")
    return (entropy * weight).sum() / (average(weight.sum()) * logits.shape[1])


def noise_invariant_entropy(
    logits: Float[Tensor, "b q bands steps"],
    noise: Float[Tensor, "b q bands steps"],
    targets: GridTargets,
    settings: LossSettings,
    *,
    average: Callable[[Tensor], Tensor] = lambda normaliser: normaliser,
) -> Float[Tensor, ""]:
    """As `mask_cross_entropy`, of min(1, mask + noise mask), noise masks dealt out as suits the mixture best.

    Noise-invariant training of CLIPSep-NIT (paper.md 2.2): what is in a target without belonging to its query is
    explained by a noise mask, and the query's own mask need not learn it.
    """
    weight, ideal = _cell_weight(targets), ideal_mask(targets, settings.mask)
    mask, extra = torch.sigmoid(logits), torch.sigmoid(noise)
    costs = []
    for order in itertools.permutations(range(noise.shape[1])):
        joint = (mask + extra[:, list(order)]).clamp_max(1.0)
        costs.append((F.binary_cross_entropy(joint, ideal, reduction="none") * weight).sum((-3, -2, -1)))
    best = torch.stack(costs).amin(0)
    return best.sum() / (average(weight.sum()) * logits.shape[1])


def _excess_activation(noise: Tensor, goal: float, average: Callable[[Tensor], Tensor]) -> Float[Tensor, ""]:
    """Mean over the cells of the noise masks' sum above `goal`; whether it is above is a matter of the whole batch."""
    activation = torch.sigmoid(noise).sum(1).mean()
    return (activation - goal) * (average(activation.detach()) > goal)


def _cell_weight(targets: GridTargets) -> Float[Tensor, "b 1 bands steps"]:
    """log1p of the mixture's magnitude, as the ancestors weigh the cells."""
    return torch.log1p(targets.power.sqrt()).clamp(1e-3, 10.0)[:, None]


def ideal_mask(targets: GridTargets, kind: str) -> Float[Tensor, "b q bands steps"]:
    """Magnitude ratio |S| / (|S| + |X - S|), or 1 where |S| > 0.5 |X| (the ancestors' binary mask)."""
    power, own = targets.power[:, None], targets.target_power
    if kind == "binary":
        return (own > 0.25 * power).float()
    rest = (power - 2.0 * targets.cross_power + own).clamp_min(0.0)
    magnitude = own.sqrt()
    return magnitude / (magnitude + rest.sqrt()).clamp_min(1e-8)


def grid_si_sdr(mask: Float[Tensor, "b q bands steps"], targets: GridTargets) -> Float[Tensor, "b q"]:
    """SI-SDR in dB of the masked mixture, from inner products taken on the grid.

    With the estimate m X and the target S, <mX, S> is exact on the grid because pooling is the adjoint of the mask's
    interpolation; |mX|^2 is an upper bound, tight where the mask is smooth. Bounded to [-30, 30] dB.
    """
    weight = targets.cell_weight
    inner = (mask * targets.cross_power * weight).sum((-2, -1))
    estimate = _masked_energy(mask, targets)
    own = (targets.target_power * weight).sum((-2, -1)).clamp_min(1e-8)
    explained = inner.square() / own
    floor = 1e-3 * explained + 1e-6 * own
    ratio = (explained + 1e-3 * estimate + 1e-6 * own) / ((estimate - explained).clamp_min(0.0) + floor)
    return 10.0 / _LOG10 * torch.log(ratio)


def grid_level_db(mask: Float[Tensor, "b q bands steps"], targets: GridTargets) -> Float[Tensor, "b q"]:
    """Level of the masked mixture relative to the mixture in dB, taken on the grid; not below -60 dB."""
    whole = (targets.power[:, None] * targets.cell_weight).sum((-2, -1)).clamp_min(1e-8)
    return 10.0 / _LOG10 * torch.log(_masked_energy(mask, targets) / whole + 1e-6)


def _masked_energy(mask: Tensor, targets: GridTargets) -> Float[Tensor, "b q"]:
    return (mask.square() * targets.power[:, None] * targets.cell_weight).sum((-2, -1))
