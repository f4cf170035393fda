"""A recogniser that no gradient can pass: a forest of decision trees on statistics of the grid names what it hears.

Its answer is piecewise constant in the sound, so its slope is zero wherever there is one. It stands for everything a
reward may be that is not differentiable: a licensed classifier behind a wire, a person's yes or no.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from marssep.errors import UsageError
from marssep.reward.detail import relative_power
from marssep.settings import Settings

_BANDS, _SEGMENTS = 48, 32
_FLOOR = 1e-4


class RecogniserSettings(Settings):
    """The forest."""

    trees: int = Field(default=160, ge=1)
    """Number of trees."""
    least_leaf: int = Field(default=2, ge=1)
    """Recordings in a leaf at least."""
    seed: int = 0
    """Of the forest."""


class Recogniser:
    """Extremely randomised trees (Geurts et al. 2006; scikit-learn) that give every label a probability.

    Attributes:
        labels: what it can say, in the order of its probabilities.
    """

    def __init__(self, forest: Any, labels: Sequence[str]) -> None:
        self.forest, self.labels = forest, tuple(labels)
        self.number = {label: index for index, label in enumerate(self.labels)}

    @classmethod
    def fit(
        cls, power: Float[Tensor, "n bands steps"], labels: Sequence[str], settings: RecogniserSettings
    ) -> "Recogniser":
        """Learn from sounds given as power on the grid.

        Raises:
            UsageError: fewer than two labels.
        """
        from sklearn.ensemble import ExtraTreesClassifier

        names = sorted(set(labels))
        if len(names) < 2:
            raise UsageError("A recogniser needs sounds of at least two labels to learn from.")
        number = {name: index for index, name in enumerate(names)}
        forest = ExtraTreesClassifier(
            settings.trees,
            min_samples_leaf=settings.least_leaf,
            class_weight="balanced",
            random_state=settings.seed,
            n_jobs=1,
        )
        forest.fit(statistics(power).numpy(), np.array([number[label] for label in labels]))
        return cls(forest, names)

    @torch.no_grad()
    def probabilities(self, power: Float[Tensor, "n bands steps"]) -> Float[Tensor, "n labels"]:
        """Of every label, for sounds given as power on the grid."""
        return torch.from_numpy(self.forest.predict_proba(statistics(power).numpy())).float().to(power.device)

    def chance_of(self, power: Float[Tensor, "n bands steps"], label: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Probability of the label each sound should have; 0 for -1, a label it does not know."""
        found = self.probabilities(power).gather(1, label.clamp_min(0)[:, None])[:, 0]
        return torch.where(label >= 0, found, 0.0)


@torch.no_grad()
def statistics(power: Float[Tensor, "n bands steps"]) -> Float[Tensor, "n s"]:
    """By band: mean level, its spread in time, how fast it changes, and the share of loud moments. On the CPU."""
    pooled = relative_power(F.adaptive_avg_pool2d(power.float().cpu(), (_BANDS, _SEGMENTS)))
    level = torch.log(pooled + _FLOOR)
    mean = torch.log(pooled.mean(2) + _FLOOR)
    moving = level.diff(dim=2).abs().mean(2)
    loud = (pooled > pooled.mean(2, keepdim=True)).float().mean(2)
    return torch.cat([mean, level.std(2), moving, loud], dim=1)
