"""A separation refined by whatever can tell a better sound from a worse one: no truth and no gradient needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from marssep.errors import UsageError
from marssep.model import normalise
from marssep.separate.adapting import learn_whole
from marssep.separate.blocks import grid_power
from marssep.separate.refining import RefineSettings, refine
from marssep.spectral.adaptation import Adaptation
from marssep.spectral.directions import channels_differ

if TYPE_CHECKING:
    from marssep.separate.separation import Separation

Reward = Callable[[Float32[np.ndarray, "g c n"], int], Sequence[float] | np.ndarray]
"""Of candidates for the target and their sample rate in hertz to one number each; higher is better."""
LONGEST = 60.0
"""Seconds. The mask moves in a few blocks along the whole recording; longer ones are refined in excerpts."""
_SAMPLES = 1 << 22  # of candidates in memory at once, all channels together
_SURE = 1e-4  # how near 0 and 1 a mask may start


def refine_separation(separation: "Separation", reward: Reward, settings: RefineSettings) -> "Separation":
    """See `Separation.refine`."""
    mixture, rate = torch.from_numpy(separation.mixture), separation.sample_rate
    if mixture.shape[-1] > LONGEST * rate:
        raise UsageError(
            f"{separation.provenance.input}: refining is for recordings of up to {LONGEST:.0f} seconds, this one has "
            f"{mixture.shape[-1] / rate:.0f}; refine excerpts."
        )
    mask = torch.from_numpy(separation.grid_mask)
    power = grid_power(mixture, rate, separation.spectral)[None]
    logits = mask.clamp(_SURE, 1.0 - _SURE).logit()[None, None]
    with _Candidates(mixture, rate, separation, reward) as candidates:
        refined = refine(logits, candidates.score, settings, power=power * normalise(power))
        made = torch.sigmoid(refined)[0]
        target = candidates.sounds(made)[0]
    about = separation.provenance.settings | {"refined": settings.model_dump()}
    provenance = replace(separation.provenance, settings=about)
    if torch.equal(refined, logits):  # nothing better was found
        return replace(separation, provenance=provenance)
    target *= 10.0 ** (-provenance.attenuated_db / 20.0)
    residual = (mixture - target).numpy()
    return replace(
        separation, target=target.numpy(), residual=residual, grid_mask=made[0].numpy(), provenance=provenance
    )


class _Candidates:
    """Masks to sounds to rewards, a few at a time."""

    def __init__(self, mixture: Float[Tensor, "c n"], rate: int, separation: "Separation", reward: Reward) -> None:
        self.mixture, self.rate, self.spectral, self.reward = mixture, rate, separation.spectral, reward
        self.spectrum = self.spectral.stft(mixture, rate)
        self.adaptation: Adaptation | None = None
        if separation.provenance.settings.get("adapt"):  # once, to the first mask
            masks, differ = torch.from_numpy(separation.grid_mask)[None], channels_differ(separation.mixture)
            self.adaptation = learn_whole(self.spectrum, masks, rate, self.spectral, directions=differ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.adaptation is not None:
            self.adaptation.close()

    def score(self, masks: Float[Tensor, "1 1 g bands steps"]) -> Float[Tensor, "1 1 g"]:
        together = max(1, _SAMPLES // self.mixture.numel())
        found = [self._rewards(part) for part in masks[0, 0].split(together)]
        return torch.cat(found)[None, None]

    def sounds(self, masks: Float[Tensor, "g bands steps"]) -> Float[Tensor, "g c n"]:
        wide = self.spectral.from_grid(masks, self.rate, self.spectrum.shape[-1])
        if self.adaptation is None:
            made = wide[:, None] * self.spectrum
        else:
            adapted = [self.adaptation.apply(self.spectrum.numpy(), mask.numpy()) for mask in wide]
            made = torch.from_numpy(np.stack(adapted))
        return self.spectral.istft(made, self.rate, self.mixture.shape[-1])

    def _rewards(self, masks: Float[Tensor, "g bands steps"]) -> Float[Tensor, " g"]:
        found = np.asarray(self.reward(self.sounds(masks).numpy(), self.rate), dtype=np.float32)
        if found.shape != (len(masks),) or not np.isfinite(found).all():
            raise UsageError(
                f"The reward of {len(masks)} candidates should be {len(masks)} finite numbers; it gave "
                f"{np.array2string(found, threshold=5)}."
            )
        return torch.from_numpy(found)
