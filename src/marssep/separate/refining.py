"""Refine one separation by policy search: masks around the proposal are tried, and a reward says which way to go.

No truth is needed, only a reward of a separated sound, and no gradient of it: a recogniser's decision will do. What is
learnt are offsets of the mask's logits on a coarse grid, for this recording and query alone; the network stays. Of all
proposals on the way the one that the reward liked best is kept: a reward in steps does not rise steadily.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from marssep.policy.advantage import AdvantageSettings, group_advantages
from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.exploration import ExplorationSettings, explore
from marssep.policy.surrogate import Rollout, SurrogateSettings, cell_weight, surrogate
from marssep.settings import Settings


class RefineSettings(Settings):
    """How far and how carefully."""

    steps: int = Field(default=32, ge=1)
    """Rollouts."""
    group_size: int = Field(default=16, ge=2)
    """Masks tried in each."""
    blocks: int = Field(default=8, ge=1)
    """Of the exploration and of the offsets, along either side of the grid."""
    concentration: float = Field(default=40.0, gt=0)
    """k of the policy; the paper's 9 tries masks too far from the proposal for the reward to say much about it
    (docs/reinforcement.md has what was tried on validation)."""
    learning_rate: float = Field(default=0.4, gt=0)
    """Of Adam, on the logits."""
    reference_kl_coef: float = Field(default=0.06, ge=0)
    """Weight of KL(policy || first policy): keeps the mask near what the network proposed."""
    inner_epochs: int = Field(default=2, ge=1)
    """Updates per rollout."""
    seed: int = 0
    """Of the masks that are tried."""


Score = Callable[[Float[Tensor, "1 q g bands steps"]], Float[Tensor, "1 q g"]]
"""Rewards of masks."""


def refine(
    logits: Float[Tensor, "1 q bands steps"],
    score: Score,
    settings: RefineSettings,
    *,
    power: Float[Tensor, "1 bands steps"],
) -> Float[Tensor, "1 q bands steps"]:
    """Logits of refined masks.

    Args:
        logits: of the network.
        score: rewards of masks; higher is better, and shift and scale within a group do not matter.
        settings: see there.
        power: of the mixture; cells count by it.
    """
    return _climb(logits, score, settings, power, direct=False)


def refine_directly(
    logits: Float[Tensor, "1 q bands steps"],
    score: Score,
    settings: RefineSettings,
    *,
    power: Float[Tensor, "1 bands steps"],
) -> Float[Tensor, "1 q bands steps"]:
    """The same offsets by the gradient of a differentiable reward: the control of `refine`; as many updates."""
    return _climb(logits, score, settings, power, direct=True)


def _climb(logits: Tensor, score: Score, settings: RefineSettings, power: Tensor, *, direct: bool) -> Tensor:
    logits = logits.detach().float()
    offsets = torch.zeros(logits.shape[1], 1, settings.blocks, settings.blocks, requires_grad=True)
    best = _Best(offsets.detach().clone(), torch.full((logits.shape[1],), -torch.inf))
    optimiser = torch.optim.Adam([offsets], settings.learning_rate)
    reference = BetaMaskPolicy.around(torch.sigmoid(logits), settings.concentration)
    objective = SurrogateSettings(reference_kl_coef=settings.reference_kl_coef)
    exploration = ExplorationSettings(blocks=settings.blocks)
    generator = torch.Generator().manual_seed(settings.seed)
    weight = cell_weight(power, energy=True)
    valid = torch.ones(logits.shape[:2], dtype=torch.bool)
    for _ in range(settings.steps):
        old = _policy(logits, offsets, settings).detach()
        rollout = None
        if not direct:
            masks = explore(old, settings.group_size, exploration, generator=generator)
            with torch.no_grad():
                values = score(torch.cat([old.proposal[:, :, None], masks], dim=2))
            best.see(offsets, values[0, :, 0])
            advantages = group_advantages(values[:, :, 1:], AdvantageSettings(), valid=valid)
            wide = BetaMaskPolicy(old.proposal.unsqueeze(2), old.concentration)
            rollout = Rollout(masks, wide.log_prob(masks), advantages.values, advantages.kept, weight)
        for _ in range(settings.inner_epochs):
            policy = _policy(logits, offsets, settings)
            if rollout is not None:
                loss = surrogate(policy, rollout, objective, old=old, reference=reference).loss
            else:
                drift = (policy.kl(reference) * weight[:, 0]).mean()
                value = score(policy.proposal[:, :, None])
                best.see(offsets, value[0, :, 0].detach())
                loss = settings.reference_kl_coef * drift - value.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        last = score(_policy(logits, offsets, settings).proposal[:, :, None])
    best.see(offsets, last[0, :, 0])
    return logits + _spread(best.offsets, logits)


@dataclass
class _Best:
    """Offsets of the proposal with the highest reward so far, query by query."""

    offsets: Tensor
    value: Tensor

    def see(self, offsets: Tensor, value: Tensor) -> None:
        better = value > self.value
        self.offsets[better] = offsets.detach()[better]
        self.value[better] = value[better]


def _policy(logits: Tensor, offsets: Tensor, settings: RefineSettings) -> BetaMaskPolicy:
    return BetaMaskPolicy.around(torch.sigmoid(logits + _spread(offsets, logits)), settings.concentration)


def _spread(offsets: Tensor, logits: Tensor) -> Float[Tensor, "1 q bands steps"]:
    wide = F.interpolate(offsets, size=logits.shape[-2:], mode="bilinear", align_corners=False)
    return wide[:, 0][None]
