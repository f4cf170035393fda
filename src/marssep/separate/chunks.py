"""The network over a recording of any length: chunks of the length it was trained on, cross-faded in the mask."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from marssep.model import MaskNetwork, normalise

OVERLAP = 0.25
"""Share of a chunk that the next one sees too: enough to hide the seam, a third more work than none."""
BATCH = 4
"""Chunks at once; more costs memory and gains nothing on a CPU."""
QUIET = 1e-6
"""Chunks whose power is this far (60 dB) below the loudest have no say in whether the sound is present."""


OTHERS = 0.5
"""What a negative leaves to sounds that neither query names, as odds; decision 0006 has the measurements."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the network says of a whole recording.

    Attributes:
        mask: in [0, 1].
        presence: logit of the sound being there, the largest over the chunks; minus infinity in digital silence.
    """

    mask: Float[Tensor, "bands steps"]
    presence: float


@dataclass(frozen=True, slots=True)
class Heard:
    """The network's answers chunk by chunk.

    Attributes:
        starts: first column of every chunk.
        logits: of the masks.
        presence: logit for each query, the largest over the chunks that can be heard.
    """

    starts: Int[Tensor, " k"]
    logits: Float[Tensor, "k q bands chunk"]
    presence: Float[Tensor, " q"]


def propose(
    network: MaskNetwork,
    power: Float[Tensor, "bands steps"],
    query: Float[Tensor, "q d"],
    *,
    chunk_steps: int,
) -> Proposal:
    """Run the network over the grid of a recording.

    Args:
        network: in evaluation mode.
        power: of the mixture on the grid, at any level.
        query: the target's embedding and, as an optional second row, the embedding of a sound to remove.
        chunk_steps: grid columns the network was trained on.
    """
    if not power.any():  # digital silence: nothing is there
        return Proposal(torch.zeros_like(power), -math.inf)
    heard = hear(network, power, query, chunk_steps=chunk_steps)
    mask = cross_fade(_mask(heard.logits), heard.starts, n_steps=power.shape[-1])
    return Proposal(mask, float(heard.presence[0]))


@torch.inference_mode()
def hear(
    network: MaskNetwork,
    power: Float[Tensor, "bands steps"],
    query: Float[Tensor, "q d"],
    *,
    chunk_steps: int,
) -> Heard:
    """Run the network over every chunk of a recording; arguments as of `propose`, with any number of queries."""
    starts = chunk_starts(power.shape[-1], chunk_steps)
    padded = F.pad(power, (0, max(0, chunk_steps - power.shape[-1])))
    chunks = torch.stack([padded[:, start : start + chunk_steps] for start in starts.tolist()])
    outputs = [network(batch * normalise(batch), query.expand(len(batch), -1, -1)) for batch in chunks.split(BATCH)]
    level = chunks.mean((1, 2))
    presence = torch.cat([output.presence.float() for output in outputs])[level >= QUIET * level.max()]
    return Heard(starts, torch.cat([output.logits.float() for output in outputs]), presence.amax(0))


def chunk_starts(n_steps: int, chunk_steps: int) -> Int[Tensor, " k"]:
    """First columns of chunks that cover `n_steps` evenly, each sharing at least `OVERLAP` with the next."""
    if n_steps <= chunk_steps:
        return torch.zeros(1, dtype=torch.int64)
    room = n_steps - chunk_steps
    count = 1 - (-room // max(1, round(chunk_steps * (1.0 - OVERLAP))))
    return torch.linspace(0, room, count, dtype=torch.float64).round().long()


def cross_fade(
    masks: Float[Tensor, "k bands chunk"], starts: Int[Tensor, " k"], *, n_steps: int
) -> Float[Tensor, "bands steps"]:
    """Weighted mean of overlapping chunks under triangles, so that no column belongs to one chunk alone at a seam."""
    chunk_steps = masks.shape[-1]
    ramp = torch.arange(1, chunk_steps + 1, dtype=masks.dtype, device=masks.device)
    weight = torch.minimum(ramp, ramp.flip(0))
    total = masks.new_zeros(masks.shape[1], max(n_steps, chunk_steps))
    weights = masks.new_zeros(total.shape[-1])
    for mask, start in zip(masks, starts.tolist(), strict=True):
        total[:, start : start + chunk_steps] += mask * weight
        weights[start : start + chunk_steps] += weight
    return (total / weights)[:, :n_steps].clamp(0.0, 1.0)


def _mask(logits: Float[Tensor, "b q bands chunk"]) -> Float[Tensor, "b bands chunk"]:
    """The target's odds against those of the sound to remove, if there is one, and of all others."""
    target = logits[:, 0]
    if logits.shape[1] == 1:
        return torch.sigmoid(target)
    return torch.sigmoid(target - torch.logaddexp(logits[:, 1], torch.full_like(target, math.log(OTHERS))))
