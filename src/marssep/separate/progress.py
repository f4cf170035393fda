"""How far a separation has come, and stopping it."""

from collections.abc import Callable
from dataclasses import dataclass

from marssep.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a recording is on its way.

    Attributes:
        name: of the recording.
        stage: `settle` (a picture's readings), `propose` (the network), `adapt` (what the sounds are
            like here) or `render` (writing).
        share: of the whole work, in [0, 1]; an estimate, as the header's length may lie and a last pass be needed.
        seconds: of the recording that this stage has passed.
    """

    name: str
    stage: str
    share: float
    seconds: float


Watch = Callable[[Progress], bool | None]
"""Called many times on the way; `False` cancels."""


class Meter:
    """Turns samples passed into calls of the watch.

    Args:
        watch: the caller's, or None.
        name: of the recording.
        sample_rate: Hz.
        length: samples by the header; 0 if unknown.
        stages: names with their share of the work, in order.
    """

    def __init__(
        self, watch: Watch | None, *, name: str, sample_rate: int, length: int, stages: tuple[tuple[str, float], ...]
    ) -> None:
        self._watch, self._name, self._sample_rate, self._length = watch, name, sample_rate, length
        self._stages = stages
        self._base = self._size = self._highest = 0.0
        self._stage = ""

    def enter(self, stage: str) -> None:
        """Begin a stage; one that was entered before adds no share."""
        total = sum(size for _, size in self._stages)
        names = [name for name, _ in self._stages]
        at = names.index(stage)
        self._stage, self._size = stage, self._stages[at][1] / total
        self._base = sum(size for _, size in self._stages[:at]) / total

    def passed(self, samples: int) -> None:
        """Say how far the stage has come.

        Raises:
            CancelledError: if the watch says so.
        """
        if self._watch is None:
            return
        part = min(1.0, samples / self._length) if self._length else 0.0
        # A pass that must be repeated does not count backwards.
        self._highest = max(self._highest, self._base + self._size * part)
        if self._watch(Progress(self._name, self._stage, self._highest, samples / self._sample_rate)) is False:
            raise CancelledError(f"{self._name}: cancelled; nothing was written.")
