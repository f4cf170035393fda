"""Settings of the reinforcement program and of the controls that it is measured against."""

from typing import Literal

from pydantic import Field

from marssep.policy.advantage import AdvantageSettings
from marssep.policy.beta import ConcentrationSettings
from marssep.policy.exploration import ExplorationSettings
from marssep.policy.guard import GuardSettings
from marssep.policy.surrogate import SurrogateSettings
from marssep.reward.grid import GridRewardSettings
from marssep.train.settings import OptimiserSettings, SupervisedSettings, ValidationSettings


class ReinforceSettings(SupervisedSettings):
    """A supervised experiment that goes on from a model, plus what is rewarded and how the masks are tried."""

    start: str | None = "small"
    """Model whose weights the run starts from: its policy is the first one, and the reference."""
    teacher: None = None
    """Of the supervised program alone."""
    objective: Literal["reinforce", "direct", "supervised"] = "reinforce"
    """`reinforce`: the policy gradient. `direct`: the gradient of the same reward at the proposal, a control.
    `supervised`: neither, more training, a control."""
    group_size: int = Field(default=8, ge=1)
    """Masks drawn per mixture and query from one pass of the network (1 only for the paper's advantage)."""
    inner_epochs: int = Field(default=2, ge=1)
    """Updates per rollout and minibatch; from the second on, the ratio differs from 1."""
    minibatches: int = Field(default=1, ge=1)
    """Parts that a rollout's mixtures are updated in."""
    reward_weight: float = Field(default=4.0, ge=0)
    """Weight of the surrogate, or of the reward itself under `direct`."""
    anchor_weight: float = Field(default=1.0, ge=0)
    """Weight of the supervised loss beside it; without it the masks drift where the reward does not look."""
    concentration: ConcentrationSettings = ConcentrationSettings()
    """k of the policy."""
    exploration: ExplorationSettings = ExplorationSettings()
    """How masks are drawn."""
    advantage: AdvantageSettings = AdvantageSettings()
    """What their rewards are compared with."""
    surrogate: SurrogateSettings = SurrogateSettings()
    """The clipped objective."""
    reward: GridRewardSettings = GridRewardSettings()
    """What is rewarded."""
    guard: GuardSettings = GuardSettings()
    """When to stop."""
    probe_mixtures: int = Field(default=24, ge=1)
    """Validation mixtures on which reward, judge and masks are watched."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=5e-5, weight_decay=0.01, warmup_steps=20, ema=0.98)
    """A thirtieth of the supervised rate, to zero along a cosine, weights averaged: with four times the rate and no
    average, more training of any kind costs 0.1 to 0.2 dB on validation."""
    validation: ValidationSettings = ValidationSettings(mixtures=40, every_steps=60)
    """What is watched during training."""
    log_every_steps: int = Field(default=10, ge=1)
    """Rollouts between two lines of the journal."""
    batch_size: int = 8
    """Mixtures per rollout."""
    steps: int = 80
    """Rollouts; each makes `inner_epochs * minibatches` updates."""
