"""Rewards that compare the signals themselves: over a whole clip, or block by block of the grid."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.metrics import si_sdr_db
from marssep.spectral import SpectralSettings, Spectrogram

_SPECTROGRAM = Spectrogram(SpectralSettings(hop_seconds=0.032, frames_per_step=1))  # the separator's grid, no more
_QUIET = 1e-10  # power on the grid that counts as nothing
_SPAN_DB = 30.0  # block ratios are held within plus or minus this


def si_sdr_reward(
    estimate: Float[Tensor, "b n"], target: Float[Tensor, "#b n"], *, span_db: float = _SPAN_DB
) -> Float[Tensor, " b"]:
    """SI-SDR held within plus or minus `span_db`, divided by it: in [-1, 1]; 0 where the target is silent."""
    score = si_sdr_db(estimate, target)
    return (score / span_db).clamp(-1.0, 1.0).nan_to_num(0.0)


def log_magnitude_reward(
    estimate: Float[Tensor, "b n"], target: Float[Tensor, "#b n"], *, mixture: Float[Tensor, "#b n"], sample_rate: int
) -> Float[Tensor, " b"]:
    """Minus the mean difference of log magnitudes on the grid, weighted by those of the mixture; 0 is best.

    The weight is that of the separator's own loss: log(1 + magnitude), so that cells without sound have no say.
    """
    error, weight = _log_errors(estimate, target, mixture, sample_rate)
    return -(error * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-12)


def local_log_magnitude_reward(
    estimate: Float[Tensor, "b n"],
    target: Float[Tensor, "#b n"],
    *,
    mixture: Float[Tensor, "#b n"],
    sample_rate: int,
    blocks: int = 8,
) -> Float[Tensor, "b blocks blocks"]:
    """`log_magnitude_reward` of every block of the grid; 0 where the mixture is silent."""
    error, weight = _log_errors(estimate, target, mixture, sample_rate)
    summed, total = (_block_means(values, blocks) for values in (error * weight, weight))
    return -summed / total.clamp_min(1e-12)


def local_snr_reward(
    estimate: Float[Tensor, "b n"],
    target: Float[Tensor, "#b n"],
    *,
    mixture: Float[Tensor, "#b n"],
    sample_rate: int,
    blocks: int = 8,
) -> Float[Tensor, "b blocks blocks"]:
    """Signal-to-noise ratio in every block of the grid, held and divided as `si_sdr_reward`; 0 where nothing sounds.

    Noise is the squared difference of magnitudes, so that one phase for all (the mixture's) costs nothing; the
    estimate is scaled as a whole first, as SI-SDR does. Noise is counted relative to the louder of target and mixture,
    which keeps blocks without target from being worth nothing.
    """
    scale = (estimate * target).sum(-1, keepdim=True) / estimate.square().sum(-1, keepdim=True).clamp_min(1e-12)
    made, wanted, heard = (_power(wave, sample_rate) for wave in (estimate * scale.clamp(0.1, 10.0), target, mixture))
    noise = _block_means((_root(made) - _root(wanted)).square(), blocks)
    signal = _block_means(torch.maximum(wanted, heard), blocks)
    ratio = 10.0 * torch.log10((signal + _QUIET) / (noise + _QUIET))
    return torch.where(signal > _QUIET, (ratio / _SPAN_DB).clamp(-1.0, 1.0), 0.0)


def block_energy(waveform: Float[Tensor, "b n"], sample_rate: int, blocks: int = 8) -> Float[Tensor, "b blocks blocks"]:
    """Share of the energy in every block: the weights that make one number of a local reward."""
    energy = _block_means(_power(waveform, sample_rate), blocks)
    return energy / energy.sum((1, 2), keepdim=True).clamp_min(1e-20)


def _log_errors(estimate: Tensor, target: Tensor, mixture: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    powers = [_power(wave, sample_rate) for wave in (estimate, target, mixture)]
    # one scale for all three, so that the level of the recording plays no part
    level = powers[2].mean((1, 2), keepdim=True).clamp_min(1e-20)
    made, wanted, heard = (_root(power / level) for power in powers)
    return (torch.log1p(made) - torch.log1p(wanted)).abs(), torch.log1p(heard)


def _power(waveform: Tensor, sample_rate: int) -> Tensor:
    return _SPECTROGRAM.to_grid(_SPECTROGRAM.stft(waveform, sample_rate), sample_rate)


def _root(power: Tensor) -> Tensor:
    return (power + 1e-12).sqrt()


def _block_means(values: Tensor, blocks: int) -> Tensor:
    return F.adaptive_avg_pool2d(values, (blocks, blocks))
