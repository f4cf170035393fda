"""Stretches of a recording, read in one pass that ends with the last of them; only they are held."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.errors import InputError
from marssep.metrics import is_silent
from marssep.query import Region, describe_region
from marssep.separate.sources import Source


def read_excerpts(source: Source, regions: Sequence[Region]) -> list[Float[Tensor, " n"]]:
    """The samples of regions of a recording, averaged over its channels.

    Args:
        source: the recording; read block by block, because not every format can be entered in the middle.
        regions: seconds, in any order; they may overlap.

    Raises:
        InputError: if the recording cannot be read, ends before a region does, or is silent in one.
    """
    rate = source.sample_rate
    spans = [(round(begin * rate), max(round(begin * rate) + 1, round(end * rate))) for begin, end in regions]
    parts: list[list[Tensor]] = [[] for _ in spans]
    last = max((stop for _, stop in spans), default=0)
    at = 0
    for piece in source.pieces() if spans else ():
        size = piece.shape[-1]
        for held, (start, stop) in zip(parts, spans, strict=True):
            if start < at + size and stop > at:
                held.append(piece[:, max(0, start - at) : stop - at].float().mean(0))
        at += size
        if at >= last:
            break
    made = []
    for region, (_, stop), held in zip(regions, spans, parts, strict=True):
        words = f"{source.name}: the region {describe_region(region)}"
        if stop > at:
            raise InputError(f"{words} ends after the recording, which lasts {at / rate:.2f} s; give one inside it.")
        excerpt = torch.cat(held)
        if bool(is_silent(excerpt)):
            raise InputError(f"{words} is silent; give one in which the sound can be heard.")
        made.append(excerpt)
    return made
