"""Settings of the supervised program: one preset is one complete experiment."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from marssep.corpus.mixing import MixingSettings
from marssep.corpus.streaming import StreamingSettings
from marssep.errors import SettingsError
from marssep.model import ModelConfig
from marssep.settings import Settings


class AugmentationSettings(Settings):
    """Changes to the recordings in training, made on their spectra so that they cost little."""

    equaliser_db: float = 4.0
    """Standard deviation of a random smooth colouring per source, dB."""
    band_limit: float = 0.3
    """Share of mixtures that lose everything above a random frequency, as recordings at low rates do."""
    band_limit_range: tuple[float, float] = (3400.0, 12000.0)
    """Range of that frequency, hertz."""
    layer: float = 0.0
    """Share of mixtures one of whose sources is two recordings of its class at once: few recordings, many sums."""
    level_db: float = 6.0
    """Standard deviation of the mixture's level around the normalised one: a chunk is not as loud as its file."""


class QuerySettings(Settings):
    """Which queries the network sees in training."""

    per_mixture: int = 2
    """Queries per mixture; the encoder runs once for all of them."""
    single: dict[Literal["text", "audio", "image"], float] = {"text": 0.4, "audio": 0.2, "image": 0.15}
    """Chance of a query by one modality alone; otherwise a random convex mix of all (query-mixup)."""
    absent: float = 0.2
    """Chance that a mixture's last query asks for a sound that is not there."""
    noise: float = 0.15
    """Norm of a random vector added to the unit-norm embedding: queries of users are not those of the corpus."""


class LossSettings(Settings):
    """Weights of the supervised loss's parts."""

    mask: Literal["ratio", "binary"] = "ratio"
    """Target of the cross-entropy: the ideal ratio mask or the ancestors' binary one."""
    cross_entropy: float = 1.0
    """Weight of the cross-entropy, each cell weighted by log1p of the mixture's magnitude (paper.md 2.1)."""
    si_sdr: float = 0.05
    """Weight per dB of negative SI-SDR, taken on the grid."""
    suppression: float = 0.0
    """Weight per dB of the level, relative to the mixture, of what is put out for a sound that is not there."""
    suppression_goal_db: float = 25.0
    """No reward for pushing it further below than this."""
    presence: float = 0.1
    """Weight of the presence output's cross-entropy."""
    teacher: float = 1.0
    """Weight of the cross-entropies to the masks and presence of the `teacher`, if there is one."""
    noise: float = 0.1
    """Weight of the mean activation of noise masks above `noise_goal`, if the network has any (paper.md 2.2)."""
    noise_goal: float = 0.25
    """Sum of the noise masks, on average over the cells, that costs nothing."""


class OptimiserSettings(Settings):
    """How the weights move."""

    name: Literal["adamw", "adam"] = "adamw"
    """AdamW, or the paper's Adam."""
    learning_rate: float = 2e-3
    """Peak rate."""
    weight_decay: float = 0.01
    """Decoupled decay (AdamW)."""
    warmup_steps: int = 300
    """Linear warm-up."""
    final_fraction: float = 0.0
    """Rate at the end as a fraction of the peak."""
    decay: Literal["cosine", "linear"] = "cosine"
    """Shape between warm-up and end."""
    clip_norm: float = 1.0
    """Gradient norm is clipped to this."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is validated and kept."""


class ValidationSettings(Settings):
    """What is watched during training."""

    lists: tuple[str, ...] = ("open-val", "esc10-val")
    """Committed lists, or none."""
    mixtures: int = 60
    """Mixtures of each list."""
    every_steps: int = 1000
    """Steps between two validations."""
    keep: bool = False
    """Keep the model of every validation, as `at-STEP/`, for `marssep models soup`."""


class SupervisedSettings(Settings):
    """Everything the supervised program needs beside a corpus and an output folder."""

    model: ModelConfig = ModelConfig()
    """Network, spectral grid and query encoder."""
    start: str | None = None
    """Model (a shipped one's name or a folder) whose weights the run starts from; None starts from random ones.
    A `film_unet` may start from one that shares fewer decoder levels."""
    teacher: str | None = None
    """Model (a shipped one's name or a folder) whose answers are learnt beside the true ones; None for none."""
    mixing: MixingSettings = MixingSettings(speed=0.12)
    """How training mixtures are drawn."""
    streaming: StreamingSettings = StreamingSettings()
    """How much of a packed corpus is in reach at once, if it is too large to be decoded as a whole."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """How they are varied."""
    queries: QuerySettings = QuerySettings()
    """How they are queried."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """How."""
    validation: ValidationSettings = ValidationSettings()
    """What is watched."""
    sample_rate: int = 32000
    """Rate mixtures are heard at in training, hertz."""
    splits: tuple[str, ...] = ("train",)
    """Splits trained on."""
    batch_size: int = 16
    """Mixtures per step, over all processes: their number changes the speed, not the experiment."""
    accumulation: int = Field(default=1, ge=1)
    """Passes a step is made in, for batches that do not fit; batch statistics and the loss's normalisers are then those
    of a pass (of all processes)."""
    batch_norm: Literal["global", "process"] = "global"
    """With several processes: statistics of the batch of all of them, as one process would have, or each its own."""
    steps: int = 60000
    """Length of the run."""
    max_minutes: float | None = None
    """Ends the run (and its schedule) after this much time, whichever comes first; None: by steps alone."""
    precision: Literal["no", "bf16"] = "bf16"
    """Autocast; losses are always taken in float32."""
    workers: int = 1
    """Processes beside each training process that make its batches; any number gives the same batches."""
    mixing_on: Literal["workers", "device"] = "workers"
    """Where mixtures are rendered: by the workers, or on the network's device, which then holds all sounds and the
    workers draw numbers only."""
    log_every_steps: int = Field(default=50, ge=1)
    """Steps between two lines of the journal, each a mean over them."""
    checkpoint_every_steps: int = 1000
    """Steps between two checkpoints."""
    seed: int = 0
    """Decides initial weights, mixtures and queries."""


def require_same_ears(theirs: ModelConfig, settings: SupervisedSettings, *, role: str, fields: Sequence[str]) -> None:
    """Refuse a model that hears or is asked in another way than the network that is trained.

    Args:
        theirs: of the model.
        settings: of the run.
        role: the setting that names the model.
        fields: of the config that must be equal.

    Raises:
        SettingsError: naming the first that is not.
    """
    for name in fields:
        their, our = getattr(theirs, name), getattr(settings.model, name)
        if their != our:
            raise SettingsError(
                f"{role} = {getattr(settings, role)!r}: that model has {name} {their}, model.{name} is {our}; "
                "make them equal."
            )
