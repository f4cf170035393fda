"""What an evaluation measures and how surely."""

from marssep.errors import UsageError
from marssep.evaluate.baselines import BASELINES
from marssep.evaluate.results import Modality
from marssep.settings import Settings


class EvaluateSettings(Settings):
    """What is measured and how surely."""

    modalities: tuple[Modality, ...] = ("text", "audio", "image", "composed")
    """Kinds of query; `composed` fuses all that a query has with the default weights and needs at least two."""
    baselines: tuple[str, ...] = tuple(BASELINES)
    """Rows beside the model; keys of `BASELINES`."""
    limit: int | None = None
    """Only the first so-many mixtures; a limited run is written under a name of its own."""
    bss_mixtures: int | None = None
    """Mixtures, evenly spread over the list, on which BSS-eval runs too; None runs it on all."""
    absent_level_db: float = 15.0
    """An absent sound's target must lie this far below the mixture to count as suppressed."""
    presence_threshold: float | None = None
    """Presence below which the sound is taken as absent; None takes the model's."""
    strata_db: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0)
    """Edges of the table by input SNR of the target; what lies outside has rows of its own."""
    level: float = 0.95
    """Of the intervals."""
    resamples: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Of the bootstrap; nothing else is random."""
    keep_audio: int = 0
    """Queries, evenly spread over the list, whose recordings are kept, besides the model's best, median and worst."""
    jobs: int = 1
    """Mixtures separated at a time; it changes the wall time and no figure."""


def check_settings(settings: EvaluateSettings) -> None:
    """Refuse what cannot be measured.

    Raises:
        UsageError: if a setting is out of range or names an unknown baseline.
    """
    for key, lowest in (("limit", 1), ("jobs", 1), ("resamples", 1), ("bss_mixtures", 0), ("keep_audio", 0)):
        value = getattr(settings, key)
        if value is not None and value < lowest:
            raise UsageError(f"{key} = {value} is too small; give {lowest} or more.")
    unknown = [system for system in settings.baselines if system not in BASELINES]
    if unknown or not 0.0 < settings.level < 1.0:
        raise UsageError(
            f"baselines must be of {list(BASELINES)} and level in (0, 1); mend {unknown or settings.level}."
        )
    if list(settings.strata_db) != sorted(set(settings.strata_db)):
        raise UsageError(f"strata_db = {list(settings.strata_db)} must rise; give the edges from low to high.")
