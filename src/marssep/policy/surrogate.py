"""The clipped surrogate (Eq. 3 and 4, arXiv:2510.10509) with entropy and KL, and what is watched about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from marssep.policy.beta import BetaMaskPolicy
from marssep.settings import Settings

_SOME = 1e-8  # of nothing, whose sum is 0 too
_MOST = 20.0  # of a log-ratio: e^20 does not overflow, and is clipped long before


class SurrogateSettings(Settings):
    """The objective of one update."""

    ratio: Literal["cell", "block", "mask"] = "cell"
    """What is clipped: the ratio of every cell, that of a block or that of the whole mask."""
    reduction: Literal["mean", "sum"] = "mean"
    """Log-ratios of a block or mask are averaged (the geometric mean of its cells' ratios) or summed (the literal
    product, which leaves the clip range after a change of 1e-4 in every cell)."""
    clip_range: float = Field(default=0.2, gt=0)
    """Ratios count within 1 plus or minus this."""
    energy_weight: bool = True
    """Weigh cells by log(1 + magnitude) of the mixture: silent cells have no say in the reward and add only noise."""
    entropy_coef: float = 0.0
    """Weight of the mean entropy; the paper's 0.1 pulls every mask to one half."""
    kl_coef: float = 0.0
    """Weight of KL(new || old)."""
    reference_kl_coef: float = 0.0
    """Weight of KL(new || reference): the policy that the run started from, frozen."""
    blocks: int = Field(default=8, ge=1)
    """Of `block`: along either side of the grid."""


@dataclass(frozen=True)
class SurrogateTerms:
    """The loss of one update and what is watched about it.

    Attributes:
        loss: what is minimised: minus surrogate, minus entropy, plus KLs, by their weights.
        surrogate: mean clipped advantage.
        entropy: mean over cells, nats.
        approx_kl: mean of (ratio - 1) - log ratio over cells: an estimate of KL(old || new) that is never negative.
        clip_fraction: share of ratios outside the clip range.
        ratio_low: 1st percentile of the ratios.
        ratio_high: 99th percentile.
    """

    loss: Float[Tensor, ""]
    surrogate: Float[Tensor, ""]
    entropy: Float[Tensor, ""]
    approx_kl: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    ratio_low: Float[Tensor, ""]
    ratio_high: Float[Tensor, ""]


@dataclass(frozen=True)
class Rollout:
    """Masks that were tried, and what came of it.

    Attributes:
        masks: drawn from the old policy.
        old_log_prob: of every cell under it.
        advantages: of masks or blocks.
        kept: which groups count.
        weight: of cells, mean 1 over those of a mixture.
    """

    masks: Float[Tensor, "b q g bands steps"]
    old_log_prob: Float[Tensor, "b q g bands steps"]
    advantages: Float[Tensor, "b q g *blocks"]
    kept: Bool[Tensor, "b q"]
    weight: Float[Tensor, "b 1 1 bands steps"]


def cell_weight(power: Float[Tensor, "b bands steps"], *, energy: bool) -> Float[Tensor, "b 1 1 bands steps"]:
    """log(1 + magnitude), mean 1 over the cells of a mixture; or 1 everywhere."""
    weight = torch.log1p(power.clamp_min(0).sqrt()) if energy else torch.ones_like(power)
    return (weight / weight.mean((1, 2), keepdim=True).clamp_min(1e-8))[:, None, None]


def surrogate(
    policy: BetaMaskPolicy,
    rollout: Rollout,
    settings: SurrogateSettings,
    *,
    old: BetaMaskPolicy,
    reference: BetaMaskPolicy | None = None,
    average: Callable[[Tensor], Tensor] = lambda normaliser: normaliser,
) -> SurrogateTerms:
    """The loss of an update: at the first one after a rollout all ratios are 1 and its gradient is the policy gradient.

    Args:
        policy: the one that is trained, proposals `[b, q, bands, steps]`.
        rollout: from `old`.
        settings: weights and clip.
        old: the policy that the masks were drawn from.
        reference: frozen, for the second KL; needed if its weight is not 0.
        average: mean over the processes that hold equal parts of the batch, as of `supervised_loss`.
    """
    spread = BetaMaskPolicy(policy.proposal.unsqueeze(2), _per_mask(policy.concentration))
    log_ratio = spread.log_prob(rollout.masks) - rollout.old_log_prob
    grouped, weight = _group(log_ratio, rollout.weight, settings)
    ratio = grouped.clamp(-_MOST, _MOST).exp()
    advantages = _spread_out(rollout.advantages, ratio)
    clipped = ratio.clamp(1.0 - settings.clip_range, 1.0 + settings.clip_range)
    gained = torch.minimum(ratio * advantages, clipped * advantages) * weight
    per_query = gained.flatten(3).mean(3).mean(2) if gained.dim() > 3 else gained.mean(2)
    value = (per_query * rollout.kept).sum() / average(rollout.kept.sum().float()).clamp_min(_SOME)
    with torch.set_grad_enabled(torch.is_grad_enabled() and settings.entropy_coef != 0):
        entropy = (policy.entropy() * rollout.weight[:, 0]).mean()
    loss = -value - settings.entropy_coef * entropy
    if settings.kl_coef:
        loss = loss + settings.kl_coef * (policy.kl(old) * rollout.weight[:, 0]).mean()
    if settings.reference_kl_coef and reference is not None:
        loss = loss + settings.reference_kl_coef * (policy.kl(reference) * rollout.weight[:, 0]).mean()
    with torch.no_grad():
        outside = ((ratio - 1.0).abs() > settings.clip_range).float().mean()
        sample = ratio.flatten()[:: max(1, ratio.numel() // 20000)]
        low, high = torch.quantile(sample, torch.tensor([0.01, 0.99], device=sample.device))
        approx_kl = ((ratio - 1.0) - grouped).mean()
    return SurrogateTerms(loss, value.detach(), entropy.detach(), approx_kl, outside, low, high)


def _per_mask(concentration: Tensor) -> Tensor:
    return concentration if concentration.dim() == 0 else concentration.unsqueeze(2)


def _group(log_ratio: Tensor, weight: Tensor, settings: SurrogateSettings) -> tuple[Tensor, Tensor]:
    """Log-ratios of cells, blocks or masks, with the weight of each."""
    if settings.ratio == "cell":
        return log_ratio, weight.expand_as(log_ratio)
    cells = log_ratio.shape[-1] * log_ratio.shape[-2]
    if settings.ratio == "mask":
        reduced = (log_ratio * weight).mean((-2, -1))
        return (reduced * cells if settings.reduction == "sum" else reduced), torch.ones_like(reduced)
    size = (settings.blocks, settings.blocks)
    share = torch.nn.functional.adaptive_avg_pool2d(weight[:, 0], size)[:, None]
    weighted = torch.nn.functional.adaptive_avg_pool2d((log_ratio * weight).flatten(1, 2), size)
    reduced = weighted.unflatten(1, log_ratio.shape[1:3]) / share.clamp_min(1e-8)
    if settings.reduction == "sum":
        reduced = reduced * cells / settings.blocks**2
    return reduced, share.expand_as(reduced)


def _spread_out(advantages: Tensor, ratio: Tensor) -> Tensor:
    """One advantage for every ratio: that of its mask, or of the block it lies in."""
    if advantages.dim() == 3:
        return advantages[(..., *[None] * (ratio.dim() - 3))]
    if ratio.dim() == 3:
        return advantages.mean((-2, -1))
    rows = torch.arange(ratio.shape[-2], device=ratio.device) * advantages.shape[-2] // ratio.shape[-2]
    columns = torch.arange(ratio.shape[-1], device=ratio.device) * advantages.shape[-1] // ratio.shape[-1]
    return advantages[..., rows[:, None], columns[None, :]]
