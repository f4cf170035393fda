"""Sources of each example from a window of shards that moves over the corpus, so that little of it is in memory.

Which window an example draws from follows from its number alone, as everything of it does. So any number of processes
and workers gives the same examples; with the right numbers of lanes and turns, no two of them read the same shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from marssep.corpus.held import ShardName
from marssep.corpus.mixing import MixtureSampler
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError
from marssep.settings import Settings


class StreamingSettings(Settings):
    """How much of a packed corpus is in reach at once."""

    shards: int = Field(default=0, ge=0)
    """Shards in a window, each decoded in memory; 0: no windows, every mixture draws from the whole corpus, which is
    decoded once into a memory map."""
    steps: int = Field(default=200, ge=1)
    """Steps after which every window moves on by one shard."""
    lanes: int = Field(default=1, ge=1)
    """Stretches that a batch is divided into, each with a window of its own. A multiple of the number of processes
    (times `accumulation`), and no shard is read by two of them."""
    turns: int = Field(default=1, ge=1)
    """Steps in a row that have windows of their own, in turns. A multiple of `workers`, and no shard is read by two
    workers of a process."""


@dataclass(frozen=True)
class ShardPlan:
    """Which shards, by number, the sources of an example may come from.

    A lane in one of its turns is a track. In every epoch the shards are dealt out to the tracks in an order of its own.

    Args:
        n_shards: there are.
        settings: of the windows.
        batch_size: examples in a step.
        seed: of the order of shards.

    Raises:
        CorpusError: if there are fewer shards than tracks.
    """

    n_shards: int
    settings: StreamingSettings
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.n_shards < self.tracks:
            raise CorpusError(
                f"streaming: {self.n_shards} shards are too few for {self.settings.lanes} lanes in "
                f"{self.settings.turns} turns; pack the corpus again with smaller shards, or lower streaming.lanes."
            )

    @property
    def tracks(self) -> int:
        """Windows at any one time."""
        return self.settings.lanes * self.settings.turns

    def place(self, index: int) -> tuple[int, int]:
        """Track and position of an example's window."""
        step, row = divmod(index, self.batch_size)
        lane = row * self.settings.lanes // self.batch_size
        return lane * self.settings.turns + step % self.settings.turns, step // self.settings.steps

    def window(self, track: int, position: int) -> tuple[int, ...]:
        """Shards of a track from a position on; the next position has all but the first of them, and one more."""
        length = len(range(track, self.n_shards, self.tracks))
        places = range(position, position + self.settings.shards)
        return tuple(
            dict.fromkeys(self._dealt(place // length)[track :: self.tracks][place % length] for place in places)
        )

    def _dealt(self, epoch: int) -> list[int]:
        order: list[int] = np.random.default_rng((self.seed, 2, epoch)).permutation(self.n_shards).tolist()
        return order


class SourceWindows:
    """The sampler of every example: that of a split, with sources from the example's window alone.

    Queries by example and pictures still come from the whole split: of them only embeddings are needed.

    Args:
        sampler: of the split; its seed decides the order of shards, too.
        corpus: opened for streaming.
        settings: of the windows.
        split: whose shards are read.
        batch_size: examples in a step.

    Raises:
        CorpusError: if sounds of the split lie in plain files, or in too few shards.
    """

    def __init__(
        self,
        sampler: MixtureSampler,
        corpus: Corpus,
        settings: StreamingSettings,
        *,
        split: str,
        batch_size: int,
    ) -> None:
        self._sampler, self._corpus = sampler, corpus
        self._shards = corpus.shards(split)
        self._names: Sequence[ShardName] = sorted(self._shards)
        self._plan = ShardPlan(len(self._names), settings, batch_size, sampler.seed)
        self._split = split
        self._open: dict[int, tuple[int, MixtureSampler]] = {}

    def sampler(self, index: int) -> MixtureSampler:
        """For the example of an index; its window is decoded if it is not in memory yet."""
        track, position = self._plan.place(index)
        current = self._open.get(track)
        if current is None or current[0] != position:
            names, following = (self._window(track, at) for at in (position, position + 1))
            soon = [name for name in following if name not in names]
            self._corpus.hold((self._split, track), names, soon=soon)
            within = self._sampler.within([item for name in names for item in self._shards[name]])
            current = self._open[track] = position, within
        return current[1]

    def _window(self, track: int, position: int) -> list[ShardName]:
        return [self._names[number] for number in self._plan.window(track, position)]
