"""A recording in blocks with context, whatever the arrays are made of: the rule that all engines share.

A block's frames are those of the whole recording except where its own zero padding reaches in, which is half a window
from each end; its inverse is that of the whole where no such frame contributes, a full window from each end. Blocks
therefore carry a window of context, which is computed and thrown away:

    recording   |----------------------------------------------------|
    block            |context|====== kept ======|context|
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Samples = TypeVar("Samples", bound=Any)


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a recording, aligned to grid columns.

    Attributes:
        start: first kept sample.
        stop: end of the kept samples.
        left: samples of context before `start`.
        right: samples of context after `stop`; 0 at the end of the recording.
        first_step: grid column at which the block with its context begins.
    """

    start: int
    stop: int
    left: int
    right: int
    first_step: int

    @property
    def kept(self) -> slice:
        """The kept samples, counted from the beginning of the context."""
        return slice(self.left, self.left + self.stop - self.start)


def walk(
    pieces: Iterable[Samples],
    *,
    step: int,
    window: int,
    kept: Callable[[int], float],
    join: Callable[[Sequence[Samples]], Samples],
) -> Iterator[tuple[Block, Samples]]:
    """Cut a recording that comes in pieces of any length into blocks with their context.

    Args:
        pieces: the samples in order, `[c, n]`.
        step: samples between two grid columns.
        window: samples of a frame.
        kept: about how many samples a block keeps, by the number of channels.
        join: several pieces side by side.
    """
    context = -(-window // step) * step
    size = held = start = base = 0  # `held` begins at sample `base`, the next block at `start`
    pending: list[Samples] = []
    for piece in pieces:
        size = size or max(1, round(kept(len(piece)) / step)) * step
        pending.append(piece)
        held += piece.shape[-1]
        # A rest shorter than the context would be all padding, so it joins the block before it.
        while base + held >= start + size + context:
            whole = pending[0] if len(pending) == 1 else join(pending)
            left = start - base
            yield Block(start, start + size, left, context, base // step), whole[:, : left + size + context]
            start += size
            left = min(context, start)
            pending = [whole[:, start - left - base :]]
            base, held = start - left, pending[0].shape[-1]
    if held > start - base:
        yield Block(start, base + held, start - base, 0, base // step), join(pending)
