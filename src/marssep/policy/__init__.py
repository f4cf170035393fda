"""The mask as a random decision: Beta policy, exploration, advantage, clipped surrogate, and what watches over them."""

from marssep.policy.advantage import Advantages, AdvantageSettings, Baseline, block_advantages, group_advantages
from marssep.policy.beta import BetaMaskPolicy, ConcentrationSettings, concentration_at
from marssep.policy.exploration import EXPLORATIONS, ExplorationSettings, explore
from marssep.policy.guard import Guard, GuardSettings
from marssep.policy.surrogate import SurrogateSettings, SurrogateTerms, surrogate

__all__ = [
    "EXPLORATIONS",
    "AdvantageSettings",
    "Advantages",
    "Baseline",
    "BetaMaskPolicy",
    "ConcentrationSettings",
    "ExplorationSettings",
    "Guard",
    "GuardSettings",
    "SurrogateSettings",
    "SurrogateTerms",
    "block_advantages",
    "concentration_at",
    "explore",
    "group_advantages",
    "surrogate",
]
