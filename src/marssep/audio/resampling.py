"""Changing the sample rate and the number of channels."""

import numpy as np
import soxr
from jaxtyping import Float32


def resample(waveform: np.ndarray, *, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample along the last axis with soxr at high quality (linear phase, 100 dB stop band).

    Args:
        waveform: `[..., n]`.
        from_rate: Hz.
        to_rate: Hz.

    Returns:
        float32 `[..., m]` with `m = n * to_rate / from_rate`, rounded to the nearest integer and at least 1.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if from_rate == to_rate:
        return waveform
    wanted = max(1, (2 * waveform.shape[-1] * to_rate + from_rate) // (2 * from_rate))
    flat = waveform.reshape(-1, waveform.shape[-1])
    made = np.zeros((flat.shape[0], wanted), dtype=np.float32)
    for row, channel in zip(made, flat, strict=True):
        resampled = soxr.resample(channel, from_rate, to_rate, quality="HQ")[:wanted]
        row[: len(resampled)] = resampled
    return made.reshape(*waveform.shape[:-1], wanted)


def to_mono(waveform: np.ndarray) -> Float32[np.ndarray, " n"]:
    """Average the channels of `[n]` or `[c, n]`."""
    waveform = np.asarray(waveform, dtype=np.float32)
    return waveform if waveform.ndim == 1 else waveform.mean(axis=0)
