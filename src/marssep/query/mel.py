"""Mel filters as the front ends of pretrained networks want them: three scales, with or without equal areas."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

Scale = Literal["htk", "slaney", "kaldi"]


def mel_filters(
    n_fft: int,
    n_mels: int,
    *,
    sample_rate: int,
    band: tuple[float, float],
    scale: Scale = "htk",
    equal_areas: bool = False,
) -> Float32[Tensor, "f m"]:
    """Triangles between neighbouring points of a mel scale.

    Args:
        n_fft: of the spectrum, which has `n_fft // 2 + 1` rows.
        n_mels: triangles.
        sample_rate: Hz.
        band: lowest and highest frequency, Hz.
        scale: `htk`; `slaney` (linear below 1 kHz); `kaldi` (that of `htk`, with sides straight in mel, not in hertz).
        equal_areas: triangles of area 1 instead of height 1.
    """
    to_mel = _TO_MEL[scale]
    hertz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, high = (float(to_mel(torch.tensor(edge, dtype=torch.float64))) for edge in band)
    edges = torch.linspace(low, high, n_mels + 2, dtype=torch.float64)
    if scale == "kaldi":
        rows = to_mel(hertz)
    else:
        rows, edges = hertz, _TO_HERTZ[scale](edges)
    rising = (rows[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - rows[:, None]) / (edges[2:] - edges[1:-1])
    made = torch.minimum(rising, falling).clamp_min(0)
    if equal_areas:
        made = made * (2.0 / (edges[2:] - edges[:-2]))
    return made.float()


_KNEE, _STEP = 15.0, math.log(6.4) / 27.0  # Slaney's scale: 15 mel at 1 kHz, then 27 steps for a factor of 6.4


def _slaney_mel(hertz: Tensor) -> Tensor:
    return torch.where(hertz < 1000.0, hertz * 3 / 200, _KNEE + torch.log(hertz.clamp_min(1e-9) / 1000.0) / _STEP)


def _slaney_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < _KNEE, mel * 200 / 3, 1000.0 * torch.exp(_STEP * (mel - _KNEE)))


_TO_MEL: dict[Scale, Callable[[Tensor], Tensor]] = {
    "htk": lambda hertz: 2595 * torch.log10(1 + hertz / 700),
    "slaney": _slaney_mel,
    "kaldi": lambda hertz: 1127 * torch.log(1 + hertz / 700),
}
_TO_HERTZ: dict[Scale, Callable[[Tensor], Tensor]] = {
    "htk": lambda mel: 700 * (10 ** (mel / 2595) - 1),
    "slaney": _slaney_hertz,
}
