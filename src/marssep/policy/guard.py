"""What stops a run: a reward that rises while an independent judge falls, or masks that stop saying anything."""

from dataclasses import dataclass, field

from pydantic import Field

from marssep.settings import Settings


class GuardSettings(Settings):
    """When a run is stopped, judged at every validation against the one before the first step."""

    judge_drop: float = Field(default=0.02, gt=0)
    """The judge's score may fall by this much while the reward rises; more is hacking."""
    blur: float = Field(default=0.2, gt=0, lt=1)
    """The mean distance of the masks from one half may shrink by this share; more is collapse towards 0.5."""
    least_variation: float = Field(default=0.25, gt=0, lt=1)
    """Share of the masks' first spread over cells that must be left; less is collapse to a constant."""
    enabled: bool = True
    """False: only report."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the guard looks at.

    Attributes:
        reward: mean reward of the proposals on the probe mixtures.
        judge: mean score by the independent judge; None if there is none.
        contrast: mean |P - 1/2| of the masks.
        variation: standard deviation of the masks over cells.
    """

    reward: float
    judge: float | None
    contrast: float
    variation: float


@dataclass
class Guard:
    """Remembers the state before the first step and says why a run should stop.

    Attributes:
        settings: limits.
        first: what was watched before the first step.
    """

    settings: GuardSettings
    first: Watched | None = field(default=None)

    def check(self, watched: Watched) -> str | None:
        """The reason to stop, or None; the first call only remembers."""
        if self.first is None:
            self.first = watched
            return None
        first, limits = self.first, self.settings
        if watched.judge is not None and first.judge is not None:
            fallen = first.judge - watched.judge
            if fallen > limits.judge_drop and watched.reward > first.reward:
                return (
                    f"the judge fell by {fallen:.3f} while the reward rose by {watched.reward - first.reward:.3f}: "
                    "the reward is being hacked"
                )
        if watched.contrast < (1.0 - limits.blur) * first.contrast:
            return f"masks drift to one half (mean distance {first.contrast:.3f} -> {watched.contrast:.3f})"
        if watched.variation < limits.least_variation * first.variation:
            return f"masks drift to a constant (spread {first.variation:.3f} -> {watched.variation:.3f})"
        return None
