"""Sounds of a few shards held in memory, for corpora that are too large to be decoded as a whole."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Int16

ShardName = tuple[int, str]
"""Number of the corpus folder and path of the shard in it."""
Sounds = Mapping[str, Int16[np.ndarray, " n"]]
"""Samples by the path of the item."""


class HeldShards:
    """Decoded shards that somebody wants; what nobody wants any more is let go.

    Args:
        decode: all sounds of a shard.
    """

    def __init__(self, decode: Callable[[ShardName], Sounds]) -> None:
        self._decode = decode
        self._wanted: dict[Hashable, tuple[ShardName, ...]] = {}
        self._sounds: dict[ShardName, Sounds] = {}
        self._coming: dict[ShardName, Future[Sounds]] = {}
        self._pool: ThreadPoolExecutor | None = None

    @property
    def names(self) -> set[ShardName]:
        """Of the shards in memory."""
        return set(self._sounds)

    def hold(self, owner: Hashable, shards: Sequence[ShardName], *, soon: Sequence[ShardName] = ()) -> None:
        """Hold these for an owner, in place of what it had; decoding those of `soon` begins in the background."""
        self._wanted[owner] = (*shards, *soon)
        wanted = {name for names in self._wanted.values() for name in names}
        for name in self._sounds.keys() - wanted:
            del self._sounds[name]
        for name in self._coming.keys() - wanted:
            self._coming.pop(name).cancel()
        for name in shards:
            if name not in self._sounds:
                coming = self._coming.pop(name, None)
                self._sounds[name] = self._decode(name) if coming is None else coming.result()
        for name in soon:
            if name not in self._sounds and name not in self._coming:
                # Made late, in the worker process that needs it: threads do not survive a fork.
                self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="shards")
                self._coming[name] = self._pool.submit(self._decode, name)

    def find(self, shard: ShardName, path: str) -> Int16[np.ndarray, " n"] | None:
        """Samples of an item, if its shard is held."""
        return self._sounds.get(shard, {}).get(path)
