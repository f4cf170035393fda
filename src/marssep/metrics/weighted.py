"""Log-WMSE: a score that is defined for a silent target, where every ratio of energies is not."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.metrics.signal import is_silent

LOG_WMSE_CEILING = -4.0 * math.log(1e-8)
"""Score of an error that is exactly zero, 73.68."""

_FLOOR = 1e-8  # of the error, as published
_DESIGN_RATE = 44100.0  # the published weighting was designed at this rate and is a function of hertz here
_RINGING = 2048 / _DESIGN_RATE  # seconds of silence that keep the end from wrapping into the beginning


def log_wmse(
    estimate: Float[Tensor, "*#b n"],
    reference: Float[Tensor, "*#b n"],
    *,
    mixture: Float[Tensor, "*#b n"],
    sample_rate: int,
) -> Float[Tensor, "*b"]:
    """Logarithm of the frequency-weighted mean squared error relative to the mixture; higher is better.

    -4 ln(|w * (e - s)|^2 / |w * x|^2 + 1e-8), natural logarithm, with w a filter that follows the ear's sensitivity
    (high shelf of +5 dB at 1.5 kHz, high pass at 120 Hz, peak of +2.5 dB at 500 Hz, low pass at 10 kHz): logWMSE by
    Iver Jordal (`log-wmse-audio-quality`), without that package's removal of errors below -68 dB and with the whole
    ringing of the filter counted, as in version 1 of `torch-log-wmse`. A silent estimate of a silent target scores
    `LOG_WMSE_CEILING`, 20 dB of residue of the mixture in it 18.42, an estimate as loud as the mixture about 0.

    Args:
        estimate: separated waveform.
        reference: the target, which may be silent.
        mixture: the recording that was separated; a silent one gives NaN.
        sample_rate: Hz.

    Raises:
        ValueError: if the lengths differ, the tensors are not floating point, or the rate is below 1 Hz.

    Example:
        >>> mixture = torch.randn(8000, generator=torch.Generator().manual_seed(0))
        >>> round(log_wmse(0.1 * mixture, 0.0 * mixture, mixture=mixture, sample_rate=44100).item(), 3)
        18.421
    """
    n = mixture.shape[-1]
    if estimate.shape[-1] != n or reference.shape[-1] != n or n == 0 or sample_rate < 1:
        raise ValueError(
            f"estimate, reference and mixture need one length above 0 and a rate above 0, not "
            f"{estimate.shape[-1]}, {reference.shape[-1]}, {n} samples at {sample_rate} Hz."
        )
    silent = is_silent(mixture)
    dtype = torch.promote_types(estimate.dtype, reference.dtype)
    error = _weighted_energy(estimate.double() - reference.double(), sample_rate)
    whole = _weighted_energy(mixture.double(), sample_rate)
    value = -4.0 * torch.log(error / whole.clamp_min(torch.finfo(torch.float64).tiny) + _FLOOR)
    return torch.where(silent | ~error.isfinite(), torch.nan, value).to(dtype)


def ear_response(hertz: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """Power response of the published weighting at frequencies in Hz; zero above 22.05 kHz.

    Inspired by Fenton and Lee (2017); the second-order sections are those of the Audio EQ Cookbook and of a
    Butterworth design, written out in closed form.
    """
    turn = torch.exp(-2j * math.pi * hertz.double() / _DESIGN_RATE)
    response = torch.ones_like(hertz, dtype=torch.float64)
    for upper, lower in _sections():
        response = response * (_polynomial(upper, turn).abs() / _polynomial(lower, turn).abs()).square()
    return torch.where(hertz <= _DESIGN_RATE / 2, response, 0.0)


def _weighted_energy(waveform: Tensor, sample_rate: int) -> Tensor:
    length = waveform.shape[-1] + math.ceil(_RINGING * sample_rate)
    length += length % 2
    weights = _weights(length, sample_rate).to(waveform.device)
    spectrum = torch.fft.rfft(waveform, n=length)
    return ((spectrum.real.square() + spectrum.imag.square()) * weights).sum(-1)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _weights(length: int, sample_rate: int) -> Tensor:
    """|w|^2 of every bin of an even transform; inner bins stand for two."""
    weights = 2.0 * ear_response(torch.fft.rfftfreq(length, 1.0 / sample_rate, dtype=torch.float64))
    weights[0] /= 2.0
    weights[-1] /= 2.0
    return weights


def _polynomial(coefficients: tuple[float, ...], turn: Tensor) -> Tensor:
    value = torch.zeros_like(turn)
    for coefficient in reversed(coefficients):
        value = value * turn + coefficient
    return value


def _sections() -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Numerator and denominator of each section in powers of one sample of delay."""
    from scipy.signal import butter

    shelf, peak = _high_shelf(1500.0, 5.0, 1.0 / math.sqrt(2.0)), _peak(500.0, 2.5, 1.5 / math.sqrt(2.0))
    high_pass = butter(2, 120.0, btype="highpass", fs=_DESIGN_RATE)
    low_pass = butter(1, 10000.0, btype="lowpass", fs=_DESIGN_RATE)  # run forwards and backwards: twice
    designed = [tuple(tuple(float(value) for value in side) for side in pair) for pair in (high_pass, low_pass)]
    return [shelf, peak, (designed[0][0], designed[0][1]), *[(designed[1][0], designed[1][1])] * 2]


def _high_shelf(centre: float, gain_db: float, quality: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    gain, omega = 10.0 ** (gain_db / 40.0), 2.0 * math.pi * centre / _DESIGN_RATE
    cosine, slope = math.cos(omega), 2.0 * math.sqrt(gain) * math.sin(omega) / (2.0 * quality)
    rise, fall = gain + 1.0, gain - 1.0
    upper = (gain * (rise + fall * cosine + slope), -2.0 * gain * (fall + rise * cosine))
    lower = (rise - fall * cosine + slope, 2.0 * (fall - rise * cosine))
    return (*upper, gain * (rise + fall * cosine - slope)), (*lower, rise - fall * cosine - slope)


def _peak(centre: float, gain_db: float, quality: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    gain, omega = 10.0 ** (gain_db / 40.0), 2.0 * math.pi * centre / _DESIGN_RATE
    cosine, alpha = math.cos(omega), math.sin(omega) / (2.0 * quality)
    return (
        (1.0 + alpha * gain, -2.0 * cosine, 1.0 - alpha * gain),
        (1.0 + alpha / gain, -2.0 * cosine, 1.0 - alpha / gain),
    )
