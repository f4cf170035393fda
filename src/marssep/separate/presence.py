"""Is the sound there? What the network says, and what the query encoder says when it listens to the target."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from marssep.model import ModelConfig
from marssep.query import QueryEncoder
from marssep.query.hearing import AudioParts
from marssep.runtime.hearing import Heard, weigh_patches

WINDOWS = 8
"""Loudest stretches of the target that are listened to: enough to find a sound that comes now and then."""
TYPICAL = Heard(match=0.33, spread=0.14, rival=0.4)
"""Means over the 330 text queries of the first 110 mixtures of open-val, a third of them for absent sounds. With them
in the place of the true ones, 94 of 100 get the same verdict."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a sound being there.

    Attributes:
        network: logit of the network's presence output, the largest over the chunks.
        heard: what the query encoder hears in the target.
    """

    network: float
    heard: Heard = field(default_factory=Heard)

    def presence(self, config: ModelConfig) -> float:
        """Probability that the sound is there, for a model."""
        return config.evidence_weights.presence(self.network, self.heard)


@dataclass(frozen=True, slots=True)
class Gate:
    """A model's gate: which targets are turned down because their sound seems to be absent.

    What is left of an absent sound is often quiet by itself and misleads nobody, and so is a sound that is there but
    hard to hear. So the gate has to be surer of a quiet target than of a loud one (decision 0004).

    Attributes:
        threshold: presence below which it closes.
        quiet_threshold: the same for a target that is quiet.
        quiet_db: a target is quiet if it lies this far below the mixture wherever it is loudest.
        attenuation_db: how far a closed gate turns the target down.
    """

    threshold: float
    quiet_threshold: float
    quiet_db: float
    attenuation_db: float

    @classmethod
    def of(cls, config: ModelConfig, *, threshold: float | None = None) -> "Gate":
        """That of a model; a given threshold holds for quiet targets too."""
        usual = config.presence_threshold if threshold is None else threshold
        quiet = config.quiet_threshold if threshold is None and config.quiet_threshold is not None else usual
        return cls(usual, quiet, config.quiet_db, config.absent_attenuation_db)

    def closed(self, presence: ArrayLike, loudest_db: ArrayLike) -> Bool[np.ndarray, "*n"]:
        """Whether it closes for each sound; what is not known to be quiet counts as loud.

        Args:
            presence: probability.
            loudest_db: level of the target relative to the recording where it is loudest (`separate.trace.loudest_db`).
        """
        quiet = np.asarray(loudest_db, dtype=np.float64) <= -self.quiet_db
        below = np.asarray(presence, dtype=np.float64) < np.where(quiet, self.quiet_threshold, self.threshold)
        return np.asarray(below)


@dataclass(frozen=True, slots=True)
class Ear:
    """Listens to separated sounds: a sound that is not there leaves scraps of others, which seldom sound like it.

    Attributes:
        encoder: whose space queries lie in.
        rivals: embeddings of names of sounds (`ModelConfig.presence_rivals`).
        patches: listen to every patch too, for spread and rival.
    """

    encoder: QueryEncoder
    rivals: Float[Tensor, "k d"]
    patches: bool

    @classmethod
    def of(cls, config: ModelConfig, encoder: QueryEncoder, *, wholly: bool = False) -> "Ear":
        """That of a model, which hears no more than its presence uses, unless `wholly`."""
        patches = wholly or config.evidence_weights.patches
        return cls(encoder, encoder.embed_names(config.presence_rivals if patches else ()), patches)

    def listen(self, stretches: "Stretches", query: Float[Tensor, " d"]) -> Heard:
        """What is heard in the loudest stretches of a target, before any gate.

        Args:
            stretches: of the target, which has ended.
            query: unit-norm embedding.
        """
        if not self.patches:
            return Heard(float((stretches.embed(self.encoder) @ query).max()))
        heard = stretches.hear(self.encoder)
        matches = heard.whole @ query
        best = int(matches.argmax())
        return weigh_patches(
            float(matches[best]),
            heard.patches[best].cpu().numpy(),
            heard.power[best].cpu().numpy(),
            query=query.cpu().numpy(),
            rivals=self.rivals.cpu().numpy(),
        )


def embed_stretches(
    waveform: Float[Tensor, "c n"], sample_rate: int, encoder: QueryEncoder, *, seconds: float
) -> Float[Tensor, "s d"]:
    """Embeddings of the loudest stretches of a recording, at most `WINDOWS`.

    Args:
        waveform: the recording.
        sample_rate: Hz.
        encoder: the query encoder.
        seconds: length of a stretch.
    """
    return find_stretches(waveform, sample_rate, seconds=seconds).embed(encoder)


def find_stretches(waveform: Float[Tensor, "c n"], sample_rate: int, *, seconds: float) -> "Stretches":
    """The loudest stretches of a recording; arguments as of `embed_stretches`."""
    stretches = Stretches(sample_rate, seconds=seconds)
    stretches.push(waveform)
    return stretches


class Stretches:
    """The loudest stretches of a recording that comes in pieces; they lie side by side, the last ends with it.

    Args:
        sample_rate: Hz.
        seconds: length of a stretch.
    """

    def __init__(self, sample_rate: int, *, seconds: float) -> None:
        self._sample_rate = sample_rate
        self._size = max(1, round(seconds * sample_rate))
        self._held = torch.zeros(0)
        self._new = 0  # samples at the end of `_held` that lie in no stretch yet
        self._loudest: list[tuple[float, Tensor]] = []

    def push(self, piece: Float[Tensor, "c _"]) -> None:
        """Take the next samples."""
        mono = piece.float().mean(0)
        for part in mono.split(self._size):
            self._held = torch.cat([self._held, part])
            self._new += len(part)
            if self._new >= self._size:
                end = len(self._held) - (self._new - self._size)
                self._keep(self._held[end - self._size : end])
                self._new -= self._size
                # What is left may be too short for a stretch and must borrow from the one before.
                self._held = self._held[end - self._size :].clone()

    def embed(self, encoder: QueryEncoder) -> Float[Tensor, "s d"]:
        """Embeddings of the loudest, the loudest first, once the recording has ended."""
        return torch.cat([encoder.embed_audio(pair, sample_rate=self._sample_rate) for pair in self._pairs()])

    def hear(self, encoder: QueryEncoder) -> AudioParts:
        """As `embed`, patch by patch too."""
        heard = [encoder.hear(pair, sample_rate=self._sample_rate) for pair in self._pairs()]
        whole, patches, power = (
            torch.cat([getattr(each, part) for each in heard]) for part in ("whole", "patches", "power")
        )
        return AudioParts(whole, patches, power)

    def _pairs(self) -> Sequence[Float[Tensor, "_ n"]]:
        if self._new:
            self._keep(self._held[-self._size :])
            self._new = 0
        # Two at once take as long as one, on a CPU; more take more memory and no less time.
        return torch.stack([part for _, part in self._loudest]).split(2)

    def _keep(self, stretch: Tensor) -> None:
        level = float(stretch.square().mean())
        self._loudest = sorted([*self._loudest, (level, stretch.clone())], key=lambda each: -each[0])[:WINDOWS]
