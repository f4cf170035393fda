"""Signal metrics in decibels: SNR, SI-SDR, its improvement over the mixture, levels and suppression.

Every function takes `(estimate, reference)` in this order, time last, any leading axes (they broadcast). The work
is done in float64 and the answer has the caller's dtype. No metric here is called plainly "SDR": in this field that
name stands for three formulas.

What is defined where a formula is not (silent: mean power below `SILENCE_DB` of full scale):

| reference | estimate | `snr_db` | `si_sdr_db` | why |
|---|---|---|---|---|
| sounds | silent | 0 (its formula) | `FLOOR_DB` | no scale makes silence the target; 0 dB would equal doing nothing |
| silent | any | NaN | NaN | no target to be near to: use `suppression_db` or `log_wmse` |
| sounds | equal to it | `CEILING_DB` | `CEILING_DB` | infinity would spoil every mean |
| any | not finite | NaN | NaN | whoever takes means must look for it first: NaN elsewhere means "not defined" |

A constant offset is part of a signal: means are not removed. `docs/metrics.md` has the table for every metric.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FLOOR_DB = -60.0
"""Lowest value given. Noise that knows nothing of a target of 4 s at 32 kHz scores about -51 dB, so clipping here
touches next to nothing that sounds, and no estimate that sounds scores below a silent one."""

CEILING_DB = 100.0
"""Highest value given: 16-bit audio is 98 dB away from its own rounding."""

SILENCE_DB = -120.0
"""Mean power in dB of full scale (1.0) below which a signal counts as silent; absolute, because hearing is."""

_SILENT_POWER = 10.0 ** (SILENCE_DB / 10.0)
_TINY = 1e-30  # keeps logarithms and their gradients finite; far below any power that counts as a sound


def snr_db(estimate: Float[Tensor, "*#b n"], reference: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b"]:
    """Signal-to-noise ratio, 10 log10(|s|^2 / |s - e|^2); AudioSep's "SDR", and BSS-eval v4's for one channel.

    Args:
        estimate: separated waveform, full scale 1.0.
        reference: the target, same length.

    Raises:
        ValueError: if the lengths differ or the tensors are not floating point.

    Example:
        >>> target = torch.tensor([1.0, -1.0, 1.0, -1.0])
        >>> round(snr_db(0.9 * target, target).item(), 3)
        20.0
    """
    estimate, reference, dtype = _prepare(estimate, reference)
    value = _ratio_db(_power(reference), _power(reference - estimate))
    return _where_defined(estimate, reference, value).to(dtype)


def si_sdr_db(estimate: Float[Tensor, "*#b n"], reference: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b"]:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, arXiv:1811.02508); means are not removed.

    Args:
        estimate: separated waveform at any scale, full scale 1.0.
        reference: the target, same length.

    Raises:
        ValueError: if the lengths differ or the tensors are not floating point.

    Example:
        >>> target = torch.tensor([1.0, -1.0, 1.0, -1.0])
        >>> noise = torch.tensor([0.1, 0.1, -0.1, -0.1])
        >>> round(si_sdr_db(0.2 * (target + noise), target).item(), 3)
        20.0
    """
    estimate, reference, dtype = _prepare(estimate, reference)
    scale = (estimate * reference).mean(-1) / _power(reference).clamp_min(_TINY)
    projection = scale[..., None] * reference
    value = _ratio_db(_power(projection), _power(projection - estimate))
    # At zero power both terms vanish and the ratio would read 0 dB, the score of doing nothing on an even mixture.
    value = torch.where(_power(estimate) < _SILENT_POWER, torch.full_like(value, FLOOR_DB), value)
    return _where_defined(estimate, reference, value).to(dtype)


def si_sdr_improvement(
    estimate: Float[Tensor, "*#b n"], reference: Float[Tensor, "*#b n"], *, mixture: Float[Tensor, "*#b n"]
) -> Float[Tensor, "*b"]:
    """SI-SDR of the estimate minus that of the untouched mixture (SI-SDRi); doing nothing scores exactly 0 dB.

    Args:
        estimate: separated waveform at any scale.
        reference: the target, same length.
        mixture: the recording that was separated, same length.

    Raises:
        ValueError: if the lengths differ or the tensors are not floating point.
    """
    return si_sdr_db(estimate, reference) - si_sdr_db(mixture, reference)


def snr_improvement(
    estimate: Float[Tensor, "*#b n"], reference: Float[Tensor, "*#b n"], *, mixture: Float[Tensor, "*#b n"]
) -> Float[Tensor, "*b"]:
    """SNR of the estimate minus that of the untouched mixture (AudioSep's "SDRi"); doing nothing scores exactly 0 dB.

    Args:
        estimate: separated waveform.
        reference: the target, same length.
        mixture: the recording that was separated, same length.

    Raises:
        ValueError: if the lengths differ or the tensors are not floating point.
    """
    return snr_db(estimate, reference) - snr_db(mixture, reference)


def is_silent(waveform: Float[Tensor, "*b n"]) -> Bool[Tensor, "*b"]:
    """Whether the mean power lies below `SILENCE_DB` of full scale.

    Example:
        >>> is_silent(torch.tensor([[0.0, 0.0], [0.1, 0.0]])).tolist()
        [True, False]
    """
    _check_floating(waveform)
    return _power(waveform.double()) < _SILENT_POWER


def level_db(waveform: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Mean power in dB of full scale, not below `SILENCE_DB`.

    Example:
        >>> level_db(torch.full((8,), 0.1)).item()
        -20.0
    """
    _check_floating(waveform)
    power = _power(waveform.double()).clamp_min(_SILENT_POWER)
    return (10.0 * torch.log10(power)).to(waveform.dtype)


def suppression_db(estimate: Float[Tensor, "*#b n"], mixture: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b"]:
    """How far the estimate lies below the mixture in level, in dB: the score of a query for a sound that is not there.

    Args:
        estimate: what was separated for the absent sound.
        mixture: the recording it was asked from, same length.

    Returns:
        Level of the mixture minus level of the estimate; `CEILING_DB` for a silent estimate, NaN for a silent mixture
        (there is nothing to suppress).

    Raises:
        ValueError: if the lengths differ or the tensors are not floating point.

    Example:
        >>> mixture = torch.tensor([0.5, -0.5, 0.5, -0.5])
        >>> round(suppression_db(0.1 * mixture, mixture).item(), 3)
        20.0
    """
    estimate, mixture, dtype = _prepare(estimate, mixture)
    power = _power(estimate)
    value = _ratio_db(_power(mixture), power)
    value = torch.where(power < _SILENT_POWER, torch.full_like(value, CEILING_DB), value)
    return _where_defined(estimate, mixture, value).to(dtype)


def _prepare(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    _check_floating(estimate)
    _check_floating(reference)
    if estimate.shape[-1] != reference.shape[-1]:
        raise ValueError(f"estimate has {estimate.shape[-1]} samples, reference {reference.shape[-1]}; cut or pad one.")
    if estimate.shape[-1] == 0:
        raise ValueError("a waveform without samples has no score.")
    dtype = torch.promote_types(estimate.dtype, reference.dtype)
    return estimate.double(), reference.double(), dtype


def _check_floating(waveform: Tensor) -> None:
    if not waveform.is_floating_point():
        raise ValueError(f"waveforms must be floating point at full scale 1.0, not {waveform.dtype}.")


def _power(waveform: Tensor) -> Tensor:
    return waveform.square().mean(-1)


def _ratio_db(signal: Tensor, error: Tensor) -> Tensor:
    value = 10.0 * (torch.log10(signal.clamp_min(_TINY)) - torch.log10(error.clamp_min(_TINY)))
    return value.clamp(FLOOR_DB, CEILING_DB)


def _where_defined(estimate: Tensor, reference: Tensor, value: Tensor) -> Tensor:
    power = _power(reference)
    defined = (power >= _SILENT_POWER) & (power + _power(estimate)).isfinite()
    return torch.where(defined.expand_as(value), value, torch.full_like(value, torch.nan))
