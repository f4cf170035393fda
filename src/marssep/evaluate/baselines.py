"""Rows that stand beside every model: doing nothing, and the best a mask could do if it knew the sources."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from marssep.evaluate.classical import hpss, nmf
from marssep.spectral import Spectrogram

Baseline = Callable[[Float[Tensor, " n"], Float[Tensor, "s n"], Spectrogram, int], Float[Tensor, "s n"]]
"""(mixture, sources, spectral, sample_rate) -> one estimate for each source; oracles look at the sources."""


def do_nothing(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """The mixture itself: SI-SDRi is 0 dB by definition, SNR is that of the mixture."""
    return mixture.expand_as(sources)


def oracle_ratio_on_grid(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Ideal ratio mask P_s / (P_s + P_n) of the powers on the model's grid: the ceiling of any mask on that grid."""
    spectrum, target, interference = _powers(mixture, sources, spectral, sample_rate)
    mask = _ratio(spectral.pool(target, sample_rate), spectral.pool(interference, sample_rate))
    mask = spectral.from_grid(mask, sample_rate, spectrum.shape[-1])
    return spectral.istft(mask * spectrum, sample_rate, mixture.shape[-1])


def oracle_ratio_on_stft(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Ideal ratio mask P_s / (P_s + P_n) on every STFT bin: what the grid costs is the distance to the row above."""
    spectrum, target, interference = _powers(mixture, sources, spectral, sample_rate)
    return spectral.istft(_ratio(target, interference) * spectrum, sample_rate, mixture.shape[-1])


def oracle_binary_on_grid(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Ideal binary mask P_s > P_n on the model's grid, mapped back to the bins as the model's masks are."""
    spectrum, target, interference = _powers(mixture, sources, spectral, sample_rate)
    mask = (spectral.pool(target, sample_rate) > spectral.pool(interference, sample_rate)).to(target.dtype)
    mask = spectral.from_grid(mask, sample_rate, spectrum.shape[-1])
    return spectral.istft(mask * spectrum, sample_rate, mixture.shape[-1])


def oracle_binary_on_stft(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Ideal binary mask P_s > P_n on every STFT bin: the target that the ancestors' networks are trained for."""
    spectrum, target, interference = _powers(mixture, sources, spectral, sample_rate)
    return spectral.istft((target > interference) * spectrum, sample_rate, mixture.shape[-1])


BASELINES: Mapping[str, Baseline] = {
    "mixture": do_nothing,
    "oracle_grid": oracle_ratio_on_grid,
    "oracle_stft": oracle_ratio_on_stft,
    "oracle_binary_grid": oracle_binary_on_grid,
    "oracle_binary_stft": oracle_binary_on_stft,
    "nmf": nmf,
    "hpss": hpss,
}
"""Every row that needs no model; a new one is a function and a line here."""


def _powers(
    mixture: Tensor, sources: Tensor, spectral: Spectrogram, sample_rate: int
) -> tuple[Complex[Tensor, "f t"], Float[Tensor, "s f t"], Float[Tensor, "s f t"]]:
    spectrum = spectral.stft(mixture, sample_rate)
    sources_spectrum = spectral.stft(sources, sample_rate)
    return spectrum, _power(sources_spectrum), _power(spectrum - sources_spectrum)


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _ratio(target: Tensor, interference: Tensor) -> Tensor:
    return target / (target + interference).clamp_min(torch.finfo(target.dtype).tiny)
