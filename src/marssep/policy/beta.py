"""The Beta mask policy (Eq. 2, arXiv:2510.10509): every cell of the mask is drawn around the network's proposal.

With alpha = 1 + k P and beta = 1 + k (1 - P) the proposal P is the *mode* of the distribution, not its mean: the mean
is (1 + k P) / (k + 2), nearer to one half. Inference therefore uses the mode.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from marssep.settings import Settings

EDGE = 1e-6
"""Masks are held this far from 0 and 1 where their logarithm is taken."""


class ConcentrationSettings(Settings):
    """k of the policy: how closely masks are drawn around the proposal."""

    kind: Literal["fixed", "annealed", "predicted"] = "fixed"
    """One number; one that moves from `value` to `final` over the run; or one per cell, from a small head that is
    trained with the policy and bounded by `bounds`."""
    value: float = Field(default=9.0, gt=0)
    """k, the paper's kappa; of `annealed` the first, of `predicted` where the head starts."""
    final: float = Field(default=30.0, gt=0)
    """Of `annealed`: k at the end; between, k moves geometrically."""
    bounds: tuple[float, float] = (3.0, 30.0)
    """Of `predicted`: least and greatest k."""


def concentration_at(settings: ConcentrationSettings, done: float) -> float:
    """K when the share `done` (0 to 1) of the run is over; of a predicted one where it starts."""
    if settings.kind != "annealed":
        return settings.value
    return settings.value * (settings.final / settings.value) ** min(max(done, 0.0), 1.0)


@dataclass(frozen=True)
class BetaMaskPolicy:
    """Independent Beta distributions, one per cell, in float32; exact and finite at P = 0 and P = 1.

    Attributes:
        proposal: P in [0, 1].
        concentration: k > 0, one number or one per cell.
    """

    proposal: Float[Tensor, "*cells"]
    concentration: Tensor

    @classmethod
    def around(cls, proposal: Tensor, concentration: float | Tensor) -> "BetaMaskPolicy":
        """The policy whose mode is `proposal`; both are taken in float32."""
        proposal = proposal.float()
        return cls(proposal, torch.as_tensor(concentration, dtype=torch.float32, device=proposal.device))

    @property
    def alpha(self) -> Tensor:
        """1 + k P."""
        return 1.0 + self.concentration * self.proposal

    @property
    def beta(self) -> Tensor:
        """1 + k (1 - P)."""
        return 1.0 + self.concentration * (1.0 - self.proposal)

    def mode(self) -> Tensor:
        """The most likely mask, which is the proposal itself."""
        return self.proposal

    def mean(self) -> Tensor:
        """(1 + k P) / (k + 2)."""
        return self.alpha / (self.concentration + 2.0)

    def variance(self) -> Tensor:
        """Of every cell: the policy's own doubt, largest at P = 1/2."""
        total = self.concentration + 2.0
        return self.alpha * self.beta / (total.square() * (total + 1.0))

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Masks `[count, *cells]` whose cells are independent; for correlated ones see `exploration.explore`.

        As a ratio of Gamma variables, without a gradient.
        """
        with torch.no_grad():
            shape = (count, *torch.broadcast_shapes(self.alpha.shape, self.beta.shape))
            ups = torch._standard_gamma(self.alpha.detach().expand(shape).contiguous(), generator=generator)
            downs = torch._standard_gamma(self.beta.detach().expand(shape).contiguous(), generator=generator)
            return ups / (ups + downs)

    def log_prob(self, mask: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Log-density of every cell; leading axes of `mask` are broadcast.

        Args:
            mask: in [0, 1]; held `EDGE` away from both ends, where the density of the outermost P is 0 or infinite.
        """
        mask = mask.clamp(EDGE, 1.0 - EDGE)
        k, p = self.concentration, self.proposal
        return (k * p) * mask.log() + (k * (1.0 - p)) * torch.log1p(-mask) - self._log_norm()

    def entropy(self) -> Tensor:
        """Differential entropy of every cell, nats; never above 0 (that of the uniform distribution)."""
        k = self.concentration
        digammas = (k * self.proposal) * torch.digamma(self.alpha) + (k * (1.0 - self.proposal)) * torch.digamma(
            self.beta
        )
        return self._log_norm() - digammas + k * torch.digamma(k + 2.0)

    def kl(self, other: "BetaMaskPolicy") -> Tensor:
        """KL(self || other) of every cell, nats."""
        rise, fall = self.alpha - other.alpha, self.beta - other.beta
        return (
            other._log_norm()
            - self._log_norm()
            + rise * torch.digamma(self.alpha)
            + fall * torch.digamma(self.beta)
            - (rise + fall) * torch.digamma(self.alpha + self.beta)
        )

    def detach(self) -> "BetaMaskPolicy":
        """The same policy, without a gradient: the old one, or the reference."""
        return BetaMaskPolicy(self.proposal.detach(), self.concentration.detach())

    def _log_norm(self) -> Tensor:
        """Log B(alpha, beta)."""
        k = self.concentration
        return torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(k + 2.0)


class ConcentrationHead(torch.nn.Module):
    """k of every cell from the mixture's power and the proposal's logit; starts at `settings.value` everywhere."""

    def __init__(self, settings: ConcentrationSettings, *, channels: int = 8) -> None:
        super().__init__()
        low, high = (math.log(bound) for bound in settings.bounds)
        self.low, self.span = low, high - low
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(2, channels, 5, padding=2), torch.nn.SiLU(), torch.nn.Conv2d(channels, 1, 1)
        )
        share = min(max((math.log(settings.value) - low) / self.span, 0.02), 0.98)
        last = self.layers[-1]
        assert isinstance(last, torch.nn.Conv2d)
        torch.nn.init.zeros_(last.weight)
        assert last.bias is not None
        torch.nn.init.constant_(last.bias, math.log(share / (1.0 - share)))

    def forward(
        self, features: Float[Tensor, "b bands steps"], logits: Float[Tensor, "b q bands steps"]
    ) -> Float[Tensor, "b q bands steps"]:
        """Concentration within the bounds; the proposal is only looked at, not moved."""
        seen = torch.stack([features[:, None].expand_as(logits), logits.detach().float() / 4.0], dim=2).flatten(0, 1)
        raw = self.layers(seen)[:, 0].unflatten(0, logits.shape[:2])
        return torch.exp(self.low + self.span * torch.sigmoid(raw))
