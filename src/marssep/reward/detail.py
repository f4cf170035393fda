"""What a sound consists of, where and when: a coarse picture of its spectrum that an embedding carries beside its kind.

The trunk of the query encoder answers "what is it" and hardly hears a third of the target missing. Two separations of
one mixture differ in just that, so the reward's embedding needs a part that sees it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from marssep.spectral import SpectralSettings, Spectrogram

_SILENT = 1e-12  # mean power below which (-120 dB of full scale) there is nothing to see
_FLOOR = 1e-6  # of a cell relative to the mean: keeps the slope of the root finite
_SPECTROGRAM = Spectrogram(SpectralSettings(hop_seconds=0.032, frames_per_step=1))
AXIS = {name: float(getattr(_SPECTROGRAM.settings, name)) for name in ("max_frequency", "corner_frequency")}
"""Of the rows it sees, hertz."""


def detail_grid(
    waveform: Float32[Tensor, "b n"], sample_rate: int, *, bands: int, segments: int
) -> Float32[Tensor, "b bands segments"]:
    """Mean power by band and segment of time, relative to the mean over all; silence is all zeros.

    Differentiable, for any rate and any length from one sample: the segments divide the clip, whatever its length.

    Args:
        waveform: full scale 1.0.
        sample_rate: Hz.
        bands: rows of the logarithmic frequency axis up to 16 kHz.
        segments: parts of equal length.
    """
    spectrum = _SPECTROGRAM.stft(waveform, sample_rate)
    power = _SPECTROGRAM.to_grid(spectrum, sample_rate)
    return relative_power(F.adaptive_avg_pool2d(power, (bands, segments)))


def relative_power(power: Float[Tensor, "b bands segments"]) -> Float[Tensor, "b bands segments"]:
    """Divide by the mean, which makes the level play no part; silence is all zeros."""
    mean = power.mean((1, 2), keepdim=True)
    return torch.where(mean > _SILENT, power / mean.clamp_min(_SILENT), 0.0)


def compressed(grid: Float[Tensor, "b bands segments"], exponent: float) -> Float[Tensor, "b cells"]:
    """A power of the cells, which keeps the loudest from deciding alone.

    Args:
        grid: as `detail_grid` gives it.
        exponent: of the power; 0.5 is the magnitude.
    """
    return (grid + _FLOOR).pow(exponent).flatten(1)
