"""Which masks are tried: the marginals are always those of the Beta policy, the cells may move together.

A mask is drawn through quantiles: M = F^-1(Phi(eta); alpha, beta) with a standard normal field eta. With an independent
eta in every cell nothing that can be heard differs between two masks of a mixture; with one eta for a block of cells
the masks differ in what sounds where, and a reward can tell them apart (`docs/reinforcement.md` has the measurements).

The log-probability that goes with every member is the sum of the marginals' (a composite likelihood). The joint density
of a shared quantile is degenerate, but for a reward that is locally linear the policy gradient with the composite
likelihood is C grad R, where C is the correlation of the field: positive semi-definite, so still a way upwards.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from marssep.policy.beta import BetaMaskPolicy
from marssep.settings import Settings

_CELLS = (97, 161)  # of the quantile table: proposals, quantiles
_SPAN = 4.0  # standard deviations the table reaches to either side
_K_RANGE, _K_CELLS = (1.0, 128.0), 29  # concentrations of the table for predicted ones, geometric


class ExplorationSettings(Settings):
    """How masks are drawn around a proposal."""

    kind: Literal["independent", "blockwise", "low_rank"] = "blockwise"
    """Key of `EXPLORATIONS`."""
    blocks: int = Field(default=8, ge=1)
    """Of `blockwise`: blocks along either side of the grid; 8 makes blocks of 16 x 16 cells, 32 of 4 x 4."""
    rank: int = Field(default=4, ge=1)
    """Of `low_rank`: products of a profile over rows and one over columns that the field is a sum of."""
    antithetic: bool = True
    """Draw masks in pairs eta and -eta: what one raises the other lowers."""


def _independent(shape: tuple[int, ...], settings: ExplorationSettings, generator: torch.Generator) -> Tensor:
    """The paper's: a quantile of its own for every cell."""
    return torch.randn(shape, generator=generator)


def _blockwise(shape: tuple[int, ...], settings: ExplorationSettings, generator: torch.Generator) -> Tensor:
    """One quantile a block; the grid of blocks is rolled at random, the same for all masks of a batch."""
    *lead, bands, steps = shape
    height, width = min(settings.blocks, bands), min(settings.blocks, steps)
    coarse = torch.randn((*lead, height, width), generator=generator)
    rows = torch.arange(bands) * height // bands
    columns = torch.arange(steps) * width // steps
    shifts = [
        int(torch.randint(-(-size // n), (1,), generator=generator)) for size, n in ((bands, height), (steps, width))
    ]
    rows, columns = rows.roll(shifts[0]), columns.roll(shifts[1])
    return coarse[..., rows[:, None], columns[None, :]]


def _low_rank(shape: tuple[int, ...], settings: ExplorationSettings, generator: torch.Generator) -> Tensor:
    """Sums of products; rows are scaled so that every cell is exactly standard normal given the row profiles."""
    *lead, bands, steps = shape
    rows = F.normalize(torch.randn((*lead, bands, settings.rank), generator=generator), dim=-1)
    return rows @ torch.randn((*lead, settings.rank, steps), generator=generator)


EXPLORATIONS: Mapping[str, Callable[[tuple[int, ...], ExplorationSettings, torch.Generator], Tensor]] = {
    "independent": _independent,
    "blockwise": _blockwise,
    "low_rank": _low_rank,
}


def noise(
    count: int, shape: tuple[int, ...], settings: ExplorationSettings, generator: torch.Generator
) -> Float[Tensor, "*any"]:
    """Standard normal fields `[..., count, bands, steps]`; antithetic partners lie side by side.

    Args:
        count: masks per proposal; the last of an odd number has no partner.
        shape: of the proposals, `[..., bands, steps]`.
        settings: how the cells hang together.
        generator: on the CPU, decides everything.
    """
    *lead, bands, steps = shape
    drawn = -(-count // 2) if settings.antithetic else count
    field = EXPLORATIONS[settings.kind]((*lead, drawn, bands, steps), settings, generator)
    if settings.antithetic:
        field = torch.stack([field, -field], dim=-3).flatten(-4, -3)[..., :count, :, :]
    return field


@torch.no_grad()
def explore(
    policy: BetaMaskPolicy,
    count: int,
    settings: ExplorationSettings,
    *,
    generator: torch.Generator,
    part: tuple[int, int] = (0, 1),
) -> Float[Tensor, "*q g bands steps"]:
    """Draw masks around proposals `[..., bands, steps]`.

    Args:
        policy: where from; its marginals hold up to the table's 0.002.
        count: masks per proposal.
        settings: how the cells hang together.
        generator: on the CPU, decides everything.
        part: number of this part and how many equal parts the batch has, if the proposals are a part of one along the
            first axis; what is drawn for a row does not depend on the parts.
    """
    own, *rest = policy.proposal.shape
    field = noise(count, (own * part[1], *rest), settings, generator)[own * part[0] :][:own]
    field = field.to(policy.proposal.device)
    proposal = policy.proposal.detach().unsqueeze(-3).expand_as(field)
    k = policy.concentration.detach()
    if k.dim() == 0:
        return _look_up(_table(float(k)).to(field.device), proposal, field)
    return _look_up_all(_tables().to(field.device), proposal, field, k.unsqueeze(-3).expand_as(field))


@functools.lru_cache(maxsize=8)
def _table(concentration: float) -> Float[Tensor, "p u"]:
    """F^-1(Phi(u); 1 + k P, 1 + k (1 - P)) by P and u."""
    from scipy.special import betaincinv, ndtr

    p, u = torch.linspace(0, 1, _CELLS[0]).double(), torch.linspace(-_SPAN, _SPAN, _CELLS[1]).double()
    k = concentration
    values = betaincinv(1.0 + k * p[:, None].numpy(), 1.0 + k * (1.0 - p[:, None]).numpy(), ndtr(u.numpy())[None])
    return torch.from_numpy(values).float()


@functools.lru_cache(maxsize=1)
def _tables() -> Float[Tensor, "k p u"]:
    """The same for all concentrations of the range."""
    low, high = _K_RANGE
    steps = torch.linspace(0, 1, _K_CELLS).double()
    return torch.stack([_table.__wrapped__(float(low * (high / low) ** step)) for step in steps])


def _look_up(table: Tensor, proposal: Tensor, field: Tensor) -> Tensor:
    """Bilinear in proposal and quantile."""
    where = torch.stack([(field / _SPAN).clamp(-1, 1), 2.0 * proposal - 1.0], dim=-1).reshape(1, 1, -1, 2)
    found = F.grid_sample(table[None, None], where, align_corners=True)
    return found.reshape(field.shape).clamp(0.0, 1.0)


def _look_up_all(tables: Tensor, proposal: Tensor, field: Tensor, k: Tensor) -> Tensor:
    """Trilinear in proposal, quantile and log k."""
    low, high = (torch.tensor(bound).log() for bound in _K_RANGE)
    level = 2.0 * (k.log() - low) / (high - low) - 1.0
    where = torch.stack([(field / _SPAN).clamp(-1, 1), 2.0 * proposal - 1.0, level.clamp(-1, 1)], dim=-1)
    found = F.grid_sample(tables[None, None], where.reshape(1, 1, 1, -1, 3), align_corners=True)
    return found.reshape(field.shape).clamp(0.0, 1.0)
