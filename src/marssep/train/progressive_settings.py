"""Settings of the second and third stage of the alignment."""

from typing import Literal

from pydantic import Field

from marssep.reward.encoder import RewardEncoderSettings
from marssep.settings import Settings


class StageSettings(Settings):
    """One stage: how long, how fast, and what each loss weighs. 0 leaves a loss out."""

    steps: int = Field(default=400, ge=1)
    """At most; training stops when validation has not improved for `patience` checks."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak, of AdamW; warmed up over 50 steps and brought to 0 along a cosine."""
    info_nce: float = Field(default=1.0, ge=0)
    """Of InfoNCE between what the stage aligns: recordings of a class in stage 2, recordings and pictures in 3."""
    triplet: float = Field(default=1.0, ge=0)
    """Of the triplets: target before mixture, same class before another class of the family."""
    consistency: float = Field(default=1.0, ge=0)
    """Of the ranking of separations by SI-SDR; in stage 3 part of the replay."""
    correlation: float = Field(default=1.5, ge=0)
    """Of the correlation with SI-SDR among exploration samples, within the consistency."""
    replay: float = Field(default=1.0, ge=0)
    """Of the losses of earlier stages: recordings and names in stage 2; in stage 3 also those of stage 2."""


class ProgressiveSettings(Settings):
    """How the reward encoder is trained; the defaults made the shipped one."""

    seed: int = 0
    """Of the batches, the noise and dropout."""
    encoder: RewardEncoderSettings = RewardEncoderSettings()
    """Shape."""
    stage2: StageSettings = StageSettings()
    """Recordings with recordings; the audio head learns."""
    stage3: StageSettings = StageSettings(steps=250, learning_rate=3e-4)
    """Recordings with pictures; the audio and the picture head learn."""
    batch_size: int = Field(default=192, ge=2)
    """Recordings, and as many pictures, per step."""
    mixtures: int = Field(default=24, ge=1)
    """Mixtures with all their separations per step."""
    triplet_margin: float = Field(default=0.2, ge=0)
    """Cosine by which a recording must be nearer to one of its class than to one of another class of the family."""
    mixture_margin: float = Field(default=0.6, ge=0)
    """Cosine by which the target must be nearer to its anchor than the mixture that holds it. On validation 0.3, 0.5
    and 0.8 (with slope and cap to match) gave gaps of .61, .66 and .69 and exploration of .68, .65 and .62."""
    slope: float = Field(default=0.035, gt=0)
    """Cosine by which a separation must be nearer per dB that it is better."""
    cap: float = Field(default=0.5, gt=0)
    """At most this much is asked for."""
    noise: float = Field(default=0.3, ge=0)
    """Standard deviation of the noise added to trunk features of recordings and pictures, in units of their spread."""
    anchor_rate: float = Field(default=10.0, gt=0)
    """Learning rate of the anchors' own weights, as a multiple of the heads'."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of AdamW."""
    check_every: int = Field(default=25, ge=1)
    """Steps between validations."""
    patience: int = Field(default=6, ge=1)
    """Checks without improvement before stopping."""
    training_mixtures: int = Field(default=700, ge=1)
    """Mixtures rendered from the split `train`."""
    validation_mixtures: int = Field(default=60, ge=1)
    """Of each validation list."""
    mixture_seed: int = 4
    """Of the training mixtures."""
    speed: float = Field(default=0.1, ge=0)
    """Recordings in training mixtures are played up to this fraction faster or slower."""
    anchors: tuple[Literal["text", "audio", "mean", "learnable", "max", "mlbp"], ...] = Field(
        default=("audio", "mean"), min_length=1
    )
    """Whose figures validation looks at, all alike."""
