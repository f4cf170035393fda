"""What is asked in a listening study, and the order in which each rater meets it: known from the seed and the name."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from marssep.errors import UsageError
from marssep.evaluate.kept import KeptItem
from marssep.settings import Settings

Kind = Literal["mushra", "ab"]

REFERENCE = "reference"
"""Name of the hidden reference among the things rated."""
ANCHOR = "anchor"
"""Name of the anchor among the things rated."""

MOST_STIMULI = 12
"""BS.1534-3: no more than twelve signals on a page, or raters lose the overview."""
MOST_PAIRS = 3
"""Pairs of systems that a rater judges for each item: with five systems all ten would take an hour."""


class Study(Settings):
    """What is fixed before the first rater comes and never changes while answers are collected."""

    kind: Kind
    seed: int
    """Draws the items and, with a rater's name, every order."""
    items: tuple[str, ...]
    """Names of the kept items."""
    systems: tuple[str, ...]
    """Names of the systems compared."""
    sha256: str
    """Of the recordings that are played: ratings of two versions of a system must not be mixed."""

    @property
    def stimuli(self) -> tuple[str, ...]:
        """Everything that is rated on a page."""
        return (*self.systems, REFERENCE, ANCHOR) if self.kind == "mushra" else self.systems


@dataclass(frozen=True, slots=True)
class Trial:
    """One page: the sounds to be rated, in the order of the page; for A/B the first is A."""

    item: str
    stimuli: tuple[str, ...]


def choose_items(
    kept: Sequence[KeptItem], *, systems: Sequence[str] | None, n: int | None, seed: int
) -> tuple[list[KeptItem], tuple[str, ...]]:
    """Choose what a study is made of.

    Args:
        kept: all items of a run.
        systems: those to compare; None takes all that every item has.
        n: how many items, drawn at random; None takes all.
        seed: equal seeds draw equal items.

    Returns:
        the items in the order of the run, and the systems.

    Raises:
        UsageError: if a system is unknown, reserved or named twice, fewer than one or too many are left, or there are
            not so many items.
    """
    known = sorted({system for item in kept for system in item.estimates})
    if systems is None:
        systems = [system for system in known if all(system in item.estimates for item in kept)]
    for system in systems:
        if system not in known:
            raise UsageError(f"--systems: '{system}' is not in the run; it has {', '.join(known)}.")
        if system in (REFERENCE, ANCHOR):
            raise UsageError(f"--systems: '{system}' is what the hidden {system} is called; rename the system.")
    if not systems or len(set(systems)) < len(systems):
        raise UsageError(f"--systems: name each system to compare once; the run has {', '.join(known)}.")
    if len(systems) > MOST_STIMULI - 2:
        raise UsageError(f"--systems: {len(systems)} are too many for one page; choose at most {MOST_STIMULI - 2}.")
    usable = [item for item in kept if all(system in item.estimates for system in systems)]
    n = len(usable) if n is None else n
    if not 1 <= n <= len(usable):
        raise UsageError(f"--items {n}: the run has {len(usable)} items with all these systems; ask for 1 to as many.")
    drawn = np.random.default_rng(seed).choice(len(usable), size=n, replace=False)
    return [usable[index] for index in sorted(drawn)], tuple(systems)


def trials(study: Study, rater: str) -> list[Trial]:
    """The pages of a rater in their order; always the same for the same study and rater."""
    digest = hashlib.sha256(f"{study.seed}/{rater}".encode()).digest()
    generator = np.random.default_rng(list(digest))
    items = [study.items[index] for index in generator.permutation(len(study.items))]
    if study.kind == "mushra":
        return [Trial(item, _shuffled(study.stimuli, generator)) for item in items]
    return _pairs(items, study.systems, generator)


def _pairs(items: Sequence[str], systems: Sequence[str], generator: np.random.Generator) -> list[Trial]:
    """Pairs dealt to items so that a rater judges all equally often, each as often one way round as the other (±1)."""
    pairs = list(itertools.combinations(systems, 2))
    if not pairs:
        raise UsageError("--study ab: needs two systems to compare; name at least two with --systems.")
    deck = [pairs[index] for index in generator.permutation(len(pairs))]
    turned = dict(zip(deck, generator.integers(0, 2, size=len(deck)).astype(bool), strict=True))
    dealt = itertools.cycle(deck)  # neighbours in the cycle differ, so an item never gets a pair twice
    made = []
    for item in items:
        for pair in itertools.islice(dealt, min(MOST_PAIRS, len(pairs))):
            made.append(Trial(item, pair[::-1] if turned[pair] else pair))
            turned[pair] = not turned[pair]
    return [made[index] for index in generator.permutation(len(made))]


def _shuffled(names: Sequence[str], generator: np.random.Generator) -> tuple[str, ...]:
    return tuple(names[index] for index in generator.permutation(len(names)))
