"""The rows of the study: what each changes in the preset `reinforce`."""

from dataclasses import dataclass
from typing import Any, Literal

from marssep.separate.refining import RefineSettings


@dataclass(frozen=True, slots=True)
class Refinement:
    """How every recording is refined by itself.

    Attributes:
        by: a search for what the recogniser says, or the gradient of the similarity to the name.
        settings: chosen on validation, see docs/reinforcement.md; the seed is that of the row.
    """

    by: Literal["search", "gradient"]
    settings: RefineSettings

    def described(self) -> dict[str, Any]:
        """For records."""
        return {"by": self.by, "settings": self.settings.model_dump()}


@dataclass(frozen=True, slots=True)
class Variant:
    """One row.

    Attributes:
        name: of the row.
        says: what it is, for people.
        role: a control cannot use a reward that no gradient can pass.
        changes: overrides of the preset; empty with `trains` False leaves the warm start as it is.
        trains: whether anything is trained.
        scale: of its logits; None has it chosen on validation.
        refined: how every recording is refined, if at all.
    """

    name: str
    says: str
    role: Literal["start", "control", "reinforced"]
    changes: tuple[str, ...] = ()
    trains: bool = True
    scale: float | None = None
    refined: Refinement | None = None


_SUPERVISED = ('objective="supervised"', "inner_epochs=1")
_DIRECT = ('objective="direct"', "inner_epochs=1")
_TWICE = "steps=160"  # as many updates as 80 rollouts with 2 inner epochs
_LONGER = "steps=240"  # about as much time; benchmarks/reinforce_step.py has the ratio
_PAPER = ('advantage.kind="paper"', "group_size=1", 'exploration.kind="independent"', "exploration.antithetic=false")
_LITERAL = (
    *_PAPER,
    "anchor_weight=0.0",
    "surrogate.entropy_coef=0.1",
    "surrogate.kl_coef=0.01",
    "surrogate.energy_weight=false",
)
_RECOGNISED = "reward.weights={recogniser=1.0}"
_NEAR = RefineSettings(steps=16, learning_rate=0.1, concentration=9.0, reference_kl_coef=0.1)
_FAR = RefineSettings(steps=16, learning_rate=0.1, concentration=9.0, reference_kl_coef=0.01)

VARIANTS: tuple[Variant, ...] = (
    Variant("no-op", "the mixture itself: a mask that is the same everywhere", "control", trains=False, scale=0.0),
    Variant("warm start", "the shipped model as it is", "start", trains=False, scale=1.0),
    Variant("sharpened", "the shipped model at its best logit scale", "control", trains=False),
    Variant("supervised, equal updates", "more of the same training", "control", (*_SUPERVISED, _TWICE)),
    Variant("supervised, equal time", "the same for as long as the default takes", "control", (*_SUPERVISED, _LONGER)),
    Variant(
        "supervised SI-SDR",
        "the loss is SI-SDR alone",
        "control",
        (*_SUPERVISED, _LONGER, "loss.cross_entropy=0.0", "loss.si_sdr=0.1"),
    ),
    Variant("direct", "gradient of the reward at the proposal", "control", (*_DIRECT, _LONGER)),
    Variant(
        "direct, no anchor", "the same without supervised loss", "control", (*_DIRECT, _LONGER, "anchor_weight=0.0")
    ),
    Variant("reinforced", "the default: groups of 8, 8 x 8 blocks, anchor", "reinforced"),
    Variant("reinforced, no anchor", "without supervised loss", "reinforced", ("anchor_weight=0.0",)),
    Variant(
        "paper",
        "one mask a mixture, moving baseline, independent cells, entropy 0.1, no anchor",
        "reinforced",
        _LITERAL,
    ),
    Variant(
        "paper, no reward",
        "the same with a reward that is always 0: what entropy and KL do by themselves",
        "control",
        (*_LITERAL, "reward.weights={cosine=0.0}"),
    ),
    Variant("paper, anchored", "the same without entropy, with the anchor", "reinforced", _PAPER),
    Variant(
        "independent cells",
        "groups of 8, a quantile of its own per cell",
        "reinforced",
        ('exploration.kind="independent"',),
    ),
    Variant(
        "independent cells, no anchor",
        "the same without supervised loss",
        "reinforced",
        ('exploration.kind="independent"', "anchor_weight=0.0"),
    ),
    Variant("low rank", "fields of rank 4", "reinforced", ('exploration.kind="low_rank"',)),
    Variant("local credit", "block by block, from the error in every block", "reinforced", ('advantage.kind="local"',)),
    Variant(
        "counterfactual credit",
        "block by block, from what the reward loses without it (4 x 4 blocks)",
        "reinforced",
        ('advantage.kind="counterfactual"', "advantage.blocks=4", "group_size=4"),
    ),
    Variant("block ratios", "ratios of blocks are clipped, not of cells", "reinforced", ('surrogate.ratio="block"',)),
    Variant("group of 4", "4 masks a mixture", "reinforced", ("group_size=4",)),
    Variant("group of 16", "16 masks a mixture", "reinforced", ("group_size=16",)),
    Variant("concentration 3", "k = 3", "reinforced", ("concentration.value=3.0",)),
    Variant("concentration 30", "k = 30", "reinforced", ("concentration.value=30.0",)),
    Variant("concentration predicted", "k of every cell by a head", "reinforced", ('concentration.kind="predicted"',)),
    Variant("recogniser", "the reward no gradient can pass: a forest's decision", "reinforced", (_RECOGNISED,)),
    Variant(
        "refined by gradient",
        "every recording by itself: gradient of the similarity to the name",
        "control",
        trains=False,
        refined=Refinement("gradient", _NEAR),
    ),
    Variant(
        "refined by gradient, far",
        "the same, less held back: of all settings the one that convinces the recogniser most",
        "control",
        trains=False,
        refined=Refinement("gradient", _FAR),
    ),
    Variant(
        "refined by search",
        "every recording by itself: policy search for what the recogniser says",
        "reinforced",
        trains=False,
        refined=Refinement("search", RefineSettings()),
    ),
)
"""In the order of the table."""


def variant(name: str) -> Variant:
    """The row of a name.

    Raises:
        UsageError: if there is none.
    """
    import difflib

    from marssep.errors import UsageError

    for each in VARIANTS:
        if each.name == name:
            return each
    near = difflib.get_close_matches(name, [each.name for each in VARIANTS], n=1, cutoff=0.0)
    raise UsageError(f"variant '{name}': no row of the study is called so; did you mean '{near[0]}'?")
