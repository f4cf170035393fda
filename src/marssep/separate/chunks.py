"""The network over a recording of any length: chunks of the length it was trained on, cross-faded in the mask.

Chunks begin every three quarters of a chunk, counted from the beginning; the last one ends with the recording. So the
same chunks are heard whether a recording comes whole or column by column from a disk.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from marssep.model import MaskNetwork, normalise

OVERLAP = 0.25
"""Share of a chunk that the next one sees too: enough to hide the seam, a third more work than none."""
BATCH = 4
"""Chunks at once, and masks at once: more costs memory and gains nothing on a CPU."""
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
class Said:
    """The network's presence output chunk by chunk.

    Attributes:
        starts: first column of every chunk.
        presence: logit of every chunk and query.
        audible: which chunks are loud enough to have a say.
    """

    starts: Int[Tensor, " k"]
    presence: Float[Tensor, "k q"]
    audible: Bool[Tensor, " k"]


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


@dataclass(frozen=True, slots=True)
class Competition:
    """Which rows of the queries take part in which target's mask.

    Attributes:
        targets: the row of every sound that is asked for.
        rivals: for each of them, the rows that it must share the mixture with; none leaves it alone.
    """

    targets: tuple[int, ...]
    rivals: tuple[tuple[int, ...], ...]

    def masks(self, logits: Float[Tensor, "k q bands chunk"]) -> Float[Tensor, "k t bands chunk"]:
        """Each target's odds against those of its rivals, if it has some, and of all others."""
        made = []
        for target, rivals in zip(self.targets, self.rivals, strict=True):
            own = logits[:, target]
            if rivals:
                others = torch.full_like(own, math.log(OTHERS))
                own = own - torch.stack([*(logits[:, row] for row in rivals), others]).logsumexp(0)
            made.append(torch.sigmoid(own))
        return torch.stack(made, dim=1)


class Listener:
    """The network over a recording whose columns come in order.

    Args:
        network: in evaluation mode, on any device; all else is on the CPU.
        queries: embeddings; the encoder of the network runs once for all of them.
        chunk_steps: grid columns the network was trained on.
    """

    def __init__(self, network: MaskNetwork, queries: Float[Tensor, "q d"], *, chunk_steps: int) -> None:
        self._network = network
        self._queries = queries
        self._chunk_steps = chunk_steps
        self._hop = max(1, round(chunk_steps * (1.0 - OVERLAP)))
        self._batch = max(1, min(BATCH, 2 * BATCH // len(queries)))
        self._columns: list[Tensor] = []
        self._first = self._held = self._next = 0
        self._last = -1
        self._waiting: list[tuple[int, Tensor]] = []
        self._starts: list[int] = []
        # Numbers, not tensors: thousands of small ones that stay between large ones that go would keep the freed memory
        # from being used again, hundreds of megabytes in three hours.
        self._levels: list[float] = []
        self._presence: list[list[float]] = []

    @property
    def n_steps(self) -> int:
        """Columns so far."""
        return self._first + self._held

    def push(self, columns: Float[Tensor, "bands _"]) -> Iterator[tuple[int, Float[Tensor, "q bands chunk"]]]:
        """Take more columns; gives first column and mask logits of every chunk that is complete, in order."""
        self._columns.append(columns)
        self._held += columns.shape[-1]
        if self.n_steps < self._next + self._chunk_steps:
            return
        whole = torch.cat(self._columns, dim=-1)
        while self.n_steps >= self._next + self._chunk_steps:
            at = self._next - self._first
            self._waiting.append((self._next, whole[:, at : at + self._chunk_steps].clone()))
            self._last, self._next = self._next, self._next + self._hop
            if len(self._waiting) == self._batch:
                yield from self._run()
        # The last chunk of all begins after the last one so far.
        self._columns = [whole[:, self._last - self._first :].clone()]
        self._first, self._held = self._last, self._columns[0].shape[-1]

    def finish(self) -> Iterator[tuple[int, Float[Tensor, "q bands chunk"]]]:
        """The chunks that are left once all columns have come."""
        whole = torch.cat(self._columns, dim=-1)
        if self._last < 0:
            self._waiting.append((0, F.pad(whole, (0, self._chunk_steps - whole.shape[-1]))))
        elif self.n_steps > self._last + self._chunk_steps:
            self._waiting.append((self.n_steps - self._chunk_steps, whole[:, -self._chunk_steps :]))
        yield from self._run()

    def presence(self) -> Float[Tensor, " q"]:
        """Logit for each query, the largest over the chunks that can be heard; minus infinity in digital silence."""
        said = self.said()
        if not said.audible.any():
            return said.presence.new_full(said.presence.shape[1:], -math.inf)
        return said.presence[said.audible].amax(0)

    def said(self) -> "Said":
        """The presence output of every chunk so far."""
        levels = torch.tensor(self._levels)
        audible = (levels >= QUIET * levels.max()) & (levels > 0)
        return Said(torch.tensor(self._starts), torch.tensor(self._presence), audible)

    @torch.inference_mode()
    def _run(self) -> Iterator[tuple[int, Tensor]]:
        if not self._waiting:
            return
        starts, chunks = [start for start, _ in self._waiting], torch.stack([chunk for _, chunk in self._waiting])
        self._waiting = []
        self._starts += starts
        device = next((parameter.device for parameter in self._network.parameters()), chunks.device)
        queries = self._queries.expand(len(chunks), -1, -1)
        output = self._network((chunks * normalise(chunks)).to(device), queries.to(device))
        self._levels.extend(chunks.mean((1, 2)).tolist())
        self._presence.extend(output.presence.float().tolist())
        yield from zip(starts, output.logits.float().cpu(), strict=True)


class Fader:
    """Weighted mean of overlapping chunks under triangles, so that no column belongs to one chunk alone at a seam."""

    def __init__(self, chunk_steps: int) -> None:
        ramp = torch.arange(1, chunk_steps + 1, dtype=torch.float32)
        self._weight = torch.minimum(ramp, ramp.flip(0))
        self._total: Tensor | None = None
        self._weights = torch.zeros(0)
        self._first = 0

    def add(self, start: int, masks: Float[Tensor, "*t bands chunk"]) -> Float[Tensor, "*t bands _"]:
        """Take the next chunk; gives the columns before it, which no later chunk will touch."""
        if self._total is None:
            self._total, self._weights = masks.new_zeros(masks.shape), torch.zeros(masks.shape[-1])
        done, rest = start - self._first, len(self._weight) - (self._first + len(self._weights) - start)
        finished = self._total[..., :done] / self._weights[:done]
        self._total = F.pad(self._total[..., done:], (0, rest))
        self._weights = F.pad(self._weights[done:], (0, rest))
        self._total += masks * self._weight
        self._weights += self._weight
        self._first = start
        return finished.clamp(0.0, 1.0)

    def finish(self, n_steps: int) -> Float[Tensor, "*t bands _"]:
        """The columns that are left, up to the end of the recording."""
        assert self._total is not None
        return (self._total / self._weights)[..., : n_steps - self._first].clamp(0.0, 1.0)


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
        query: the target's embedding, followed by those of sounds to remove.
        chunk_steps: grid columns the network was trained on.
    """
    if not power.any():  # digital silence: nothing is there
        return Proposal(torch.zeros_like(power), -math.inf)
    heard = hear(network, power, query, chunk_steps=chunk_steps)
    masks = Competition((0,), (tuple(range(1, len(query))),)).masks(heard.logits)[:, 0]
    return Proposal(cross_fade(masks, heard.starts, n_steps=power.shape[-1]), float(heard.presence[0]))


@torch.inference_mode()
def hear(
    network: MaskNetwork,
    power: Float[Tensor, "bands steps"],
    query: Float[Tensor, "q d"],
    *,
    chunk_steps: int,
) -> Heard:
    """Run the network over every chunk of a recording; arguments as of `propose`, with any number of queries."""
    listener = Listener(network, query, chunk_steps=chunk_steps)
    answers = [*listener.push(power), *listener.finish()]
    starts = torch.tensor([start for start, _ in answers])
    return Heard(starts, torch.stack([logits for _, logits in answers]), listener.presence())


def cross_fade(
    masks: Float[Tensor, "k bands chunk"], starts: Int[Tensor, " k"], *, n_steps: int
) -> Float[Tensor, "bands steps"]:
    """Mean of overlapping chunks, as `Fader` takes it, of a whole recording."""
    fader = Fader(masks.shape[-1])
    parts: Sequence[Tensor] = [fader.add(start, mask) for start, mask in zip(starts.tolist(), masks, strict=True)]
    return torch.cat([*parts, fader.finish(n_steps)], dim=-1)
