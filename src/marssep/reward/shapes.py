"""Rewards of a separation: similarity to the anchor, the same less that to the rest, signals, local ones, sums."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.errors import InputError, SettingsError, UsageError
from marssep.reward.encoder import RewardEncoder
from marssep.reward.signal import (
    block_energy,
    local_log_magnitude_reward,
    local_snr_reward,
    log_magnitude_reward,
    si_sdr_reward,
)

_PIECE_SECONDS = 1.0  # of the local similarities: about what the trunk hears at once


@dataclass(frozen=True)
class RewardInputs:
    """What rewards are computed from.

    Attributes:
        estimate: separated waveforms, candidates of any mixtures.
        target: what each should be; one row where all are of one mixture.
        mixture: what each was made from.
        sample_rate: Hz.
        anchor: unit-norm z* of each, from `RewardEncoder.anchors`.
        rest_anchor: the same for what else sounds.
    """

    estimate: Float[Tensor, "b n"]
    target: Float[Tensor, "#b n"]
    mixture: Float[Tensor, "#b n"]
    sample_rate: int
    anchor: Float[Tensor, "#b d"]
    rest_anchor: Float[Tensor, "#b d"]


@dataclass(frozen=True)
class Reward:
    """A reward and what it is made of.

    Attributes:
        total: weighted sum.
        components: every part before its weight, by name.
    """

    total: Float[Tensor, " b"]
    components: dict[str, Tensor]


def cosine(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """`cos(phi_a(estimate), z*)` (Eq. 5, arXiv:2510.10509); 0 for a silent estimate or anchor."""
    return (encoder.embed_audio(inputs.estimate, inputs.sample_rate) * inputs.anchor).sum(1)


def margin(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """Similarity to the target's anchor minus that to the anchor of what else sounds, halved: in [-1, 1]."""
    placed = encoder.embed_audio(inputs.estimate, inputs.sample_rate)
    return ((placed * inputs.anchor).sum(1) - (placed * inputs.rest_anchor).sum(1)) / 2


def si_sdr(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """See `signal.si_sdr_reward`."""
    return si_sdr_reward(inputs.estimate, inputs.target)


def log_magnitude(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """See `signal.log_magnitude_reward`."""
    return log_magnitude_reward(inputs.estimate, inputs.target, mixture=inputs.mixture, sample_rate=inputs.sample_rate)


@dataclass(frozen=True)
class LocalSimilarities:
    """Cosines with the target and with what else sounds, second by second, weighted by the mixture's energy there."""

    to_target: Float[Tensor, " b"]
    to_rest: Float[Tensor, " b"]


def local_similarities(encoder: RewardEncoder, inputs: RewardInputs) -> LocalSimilarities:
    """Both local similarities; target and mixture may be one row for all estimates. The anchors have no part in it."""
    made, wanted, heard = (_pieces(wave, inputs) for wave in (inputs.estimate, inputs.target, inputs.mixture))
    places = [_places(encoder, pieces, inputs.sample_rate) for pieces in (made, wanted, heard - wanted)]
    shares = _energy_shares(heard)
    return LocalSimilarities(*(((places[0] * other).sum(-1) * shares).sum(1) for other in places[1:]))


def local_cosine(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """Cosine with the target's own sound, second by second, weighted by the energy of the mixture there."""
    made, wanted, heard = (_pieces(wave, inputs) for wave in (inputs.estimate, inputs.target, inputs.mixture))
    near = (_places(encoder, made, inputs.sample_rate) * _places(encoder, wanted, inputs.sample_rate)).sum(-1)
    return (near * _energy_shares(heard)).sum(1)


def local_margin(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """As `local_cosine`, minus the same with what else sounds, halved."""
    near = local_similarities(encoder, inputs)
    return (near.to_target - near.to_rest) / 2


def local_si_sdr(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """`signal.local_snr_reward`, weighted by the energy of the mixture in the blocks."""
    return _weighted(local_snr_reward, inputs)


def local_log_magnitude(encoder: RewardEncoder, inputs: RewardInputs) -> Float[Tensor, " b"]:
    """`signal.local_log_magnitude_reward`, weighted by the energy of the mixture in the blocks."""
    return _weighted(local_log_magnitude_reward, inputs)


REWARDS: Mapping[str, Callable[[RewardEncoder, RewardInputs], Tensor]] = {
    "cosine": cosine,
    "margin": margin,
    "si_sdr": si_sdr,
    "log_magnitude": log_magnitude,
    "local_cosine": local_cosine,
    "local_margin": local_margin,
    "local_si_sdr": local_si_sdr,
    "local_log_magnitude": local_log_magnitude,
}


def weighted_reward(encoder: RewardEncoder, inputs: RewardInputs, weights: Mapping[str, float]) -> Reward:
    """Weighted sum of rewards with every part at hand for the journal.

    Args:
        encoder: frozen.
        inputs: candidates.
        weights: by key of `REWARDS`; need not sum to 1.

    Raises:
        SettingsError: an unknown reward, or none.
        UsageError: waveforms of unlike shapes.
        InputError: NaN or infinite samples.
    """
    unknown = sorted(weights.keys() - REWARDS.keys())
    if unknown or not weights:
        raise SettingsError(f"No reward is called {unknown}; weigh at least one of {', '.join(REWARDS)}.")
    if not inputs.estimate.shape == inputs.target.shape == inputs.mixture.shape:
        shapes = [list(wave.shape) for wave in (inputs.estimate, inputs.target, inputs.mixture)]
        raise UsageError(f"Estimate, target and mixture must have one shape, not {shapes}; repeat or cut them.")
    if not all(bool(wave.isfinite().all()) for wave in (inputs.estimate, inputs.target, inputs.mixture)):
        raise InputError("A waveform holds NaN or infinite samples, for which no reward is defined; mend it first.")
    components = {name: REWARDS[name](encoder, inputs) for name in weights}
    total = torch.stack([weights[name] * values for name, values in components.items()]).sum(0)
    return Reward(total, components)


def _weighted(reward: Callable[..., Tensor], inputs: RewardInputs) -> Tensor:
    blocks = reward(inputs.estimate, inputs.target, mixture=inputs.mixture, sample_rate=inputs.sample_rate)
    return (blocks * block_energy(inputs.mixture, inputs.sample_rate)).sum((1, 2))


def _pieces(waveform: Tensor, inputs: RewardInputs) -> Float[Tensor, "b p n"]:
    """Equal pieces of about a second; the last is filled up with silence."""
    count = max(1, round(waveform.shape[-1] / (_PIECE_SECONDS * inputs.sample_rate)))
    length = -(-waveform.shape[-1] // count)
    return F.pad(waveform, (0, count * length - waveform.shape[-1])).unflatten(-1, (count, length))


def _places(encoder: RewardEncoder, pieces: Tensor, sample_rate: int) -> Float[Tensor, "b p d"]:
    return encoder.embed_audio(pieces.flatten(0, 1), sample_rate).unflatten(0, pieces.shape[:2])


def _energy_shares(pieces: Tensor) -> Float[Tensor, "b p"]:
    energy = pieces.square().sum(-1)
    return energy / energy.sum(1, keepdim=True).clamp_min(1e-12)
