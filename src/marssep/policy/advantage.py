"""Credit: how much better a mask was than expected, for the whole mask or for every block of it."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from marssep.settings import Settings


class AdvantageSettings(Settings):
    """What a reward is compared with."""

    kind: Literal["group", "paper", "local", "counterfactual"] = "group"
    """`group`: the other masks of the same mixture and query. `paper`: a moving average over all mixtures, then the
    batch's own mean and spread. `local`: as `group`, block by block, from rewards of blocks. `counterfactual`: block by
    block, what the reward loses when that block goes back to the proposal."""
    ema: float = Field(default=0.92, ge=0, lt=1)
    """Of `paper`: decay of the moving average of the reward."""
    limit: float = Field(default=3.0, gt=0)
    """Advantages are held within plus or minus this many standard deviations."""
    least_spread: float = Field(default=1e-4, gt=0)
    """Groups whose rewards differ less than this (standard deviation) say nothing and are left out."""
    blocks: int = Field(default=8, ge=1)
    """Of `local` and `counterfactual`: blocks along either side of the grid."""


@dataclass(frozen=True)
class Advantages:
    """What every mask, or every block of it, was worth.

    Attributes:
        values: standardised; 0 where a group was left out. `[b, q, g]`, of block credit `[b, q, g, blocks, blocks]`.
        kept: which groups count.
        spread: mean standard deviation of the reward within a group, before standardising.
    """

    values: Float[Tensor, "b q g *blocks"]
    kept: Bool[Tensor, "b q"]
    spread: Float[Tensor, ""]


def group_advantages(
    rewards: Float[Tensor, "b q g"], settings: AdvantageSettings, *, valid: Bool[Tensor, "b q"]
) -> Advantages:
    """(R - mean) / std within the masks of one mixture and query; unmoved by shift and scale of the reward.

    Args:
        rewards: of every mask.
        settings: limits.
        valid: queries that have a reward at all (not those for absent sounds).
    """
    centred = rewards - rewards.mean(2, keepdim=True)
    spread = rewards.std(2, correction=0)
    kept = valid & (spread > settings.least_spread)
    values = (centred / spread.clamp_min(settings.least_spread)[..., None]).clamp(-settings.limit, settings.limit)
    return Advantages(values * kept[..., None], kept, _mean(spread, valid))


def block_advantages(
    rewards: Float[Tensor, "b q g r c"], settings: AdvantageSettings, *, valid: Bool[Tensor, "b q"]
) -> Advantages:
    """As `group_advantages`, for every block by itself; a block whose masks all do alike gets no credit.

    The blocks of one query share the scale of the most telling one, so that a block where nothing is at stake does not
    shout as loudly as one that decides.
    """
    centred = rewards - rewards.mean(2, keepdim=True)
    spread = rewards.std(2, correction=0)
    scale = spread.square().mean((-2, -1)).sqrt()
    kept = valid & (scale > settings.least_spread)
    values = centred / scale.clamp_min(settings.least_spread)[..., None, None, None]
    values = values.clamp(-settings.limit, settings.limit)
    return Advantages(values * kept[..., None, None, None], kept, _mean(scale, valid))


@dataclass
class Baseline:
    """The paper's baseline: a moving average of the reward over all mixtures.

    Attributes:
        value: None before the first batch.
    """

    value: float | None = None

    def advantages(
        self, rewards: Float[Tensor, "b q g"], settings: AdvantageSettings, *, valid: Bool[Tensor, "b q"]
    ) -> Advantages:
        """R - baseline, then brought to mean 0 and spread 1 over the whole batch (Eq. 4); moves the baseline."""
        known = rewards[valid]
        if not known.numel():
            return Advantages(torch.zeros_like(rewards), torch.zeros_like(valid), rewards.new_zeros(()))
        mean = float(known.mean())
        before = mean if self.value is None else self.value
        self.value = settings.ema * before + (1.0 - settings.ema) * mean
        raw = known - before
        spread = raw.std(correction=0)
        values = torch.zeros_like(rewards)
        values[valid] = ((raw - raw.mean()) / (spread + settings.least_spread)).clamp(-settings.limit, settings.limit)
        return Advantages(values, valid & bool(spread > settings.least_spread), spread)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).sum() / valid.sum().clamp_min(1)
