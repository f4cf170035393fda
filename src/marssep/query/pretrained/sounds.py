"""Sounds as CLAP, PE-AV and ImageBind want them: differentiable, the same every time, for clips of any length."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from marssep.query.mel import mel_filters

_POWER_FLOOR = 1e-10  # of CLAP's extractor: -100 dB
_KALDI_FLOOR = 1.1920929e-07  # Kaldi's, the smallest step of a 32-bit float at 1


@dataclass(frozen=True)
class ClapInput:
    """What CLAP's audio model takes.

    Attributes:
        features: log-mel in dB, `[b * w, c, t, m]`: w windows a clip, c is 4 with fusion and 1 without.
        longer: whether fusion has something to fuse.
        windows: w.
    """

    features: Float32[Tensor, "r c t m"]
    longer: Bool[Tensor, "r 1"]
    windows: int


class ClapFrontEnd(nn.Module):
    """Log-mel of 10 s, as transformers' `ClapFeatureExtractor` makes it.

    A shorter clip is repeated a whole number of times and filled up with silence. A longer one is cut into windows that
    cover all of it; with fusion it is shrunk in time and joined by three parts of it, from the middle of each third.
    The library takes parts at random.
    """

    def __init__(self, settings: dict[str, int | float], *, fusion: bool) -> None:
        """Make the filters.

        Args:
            settings: `sampling_rate` and `frequency_min`, `frequency_max` (Hz), `fft_window_size`, `hop_length`,
                `feature_size`, `max_length_s`, as the model's folder has them.
            fusion: of the model; it decides the kind of filter too.
        """
        super().__init__()
        self.sample_rate = int(settings["sampling_rate"])
        self.n_fft, self.hop = int(settings["fft_window_size"]), int(settings["hop_length"])
        self.length = int(settings["max_length_s"]) * self.sample_rate
        self.fusion = fusion
        filters = mel_filters(
            self.n_fft,
            int(settings["feature_size"]),
            sample_rate=self.sample_rate,
            band=(settings["frequency_min"], settings["frequency_max"]),
            scale="htk" if fusion else "slaney",
            equal_areas=not fusion,
        )
        self.register_buffer("mel", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.mel: Tensor
        self.window: Tensor

    def forward(self, waveform: Float32[Tensor, "b n"]) -> ClapInput:
        """Log-mel of waveforms at `sample_rate`."""
        n = waveform.shape[-1]
        if n <= self.length:
            repeated = waveform.repeat(1, self.length // n)
            levels = self.levels(F.pad(repeated, (0, self.length - repeated.shape[-1])))
            return self._whole(levels)
        if self.fusion:
            levels = self.levels(waveform)
            chunk = self.length // self.hop + 1
            return self._whole(levels) if levels.shape[1] == chunk else self._fused(levels, chunk)
        starts = window_starts(n, self.length)
        parts = torch.stack([waveform[:, start : start + self.length] for start in starts], dim=1)
        levels = self.levels(parts.flatten(0, 1))
        return ClapInput(levels[:, None], levels.new_zeros(len(levels), 1, dtype=torch.bool), len(starts))

    def levels(self, waveform: Float32[Tensor, "b n"]) -> Float32[Tensor, "b t m"]:
        """Power in mel bands, dB."""
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        power = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) @ self.mel
        return 10.0 * torch.log10(power.clamp_min(_POWER_FLOOR))

    def _whole(self, levels: Tensor) -> ClapInput:
        channels = 4 if self.fusion else 1
        return ClapInput(
            levels[:, None].repeat(1, channels, 1, 1), levels.new_zeros(len(levels), 1, dtype=torch.bool), 1
        )

    def _fused(self, levels: Tensor, chunk: int) -> ClapInput:
        places = torch.arange(levels.shape[1] - chunk + 1)
        thirds = torch.tensor_split(places, 3)
        starts = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
        parts = [levels[:, start : start + chunk] for start in starts]
        shrunk = F.interpolate(levels[:, None], size=(chunk, levels.shape[-1]), mode="bilinear", align_corners=False)
        return ClapInput(
            torch.cat([shrunk, torch.stack(parts, dim=1)], dim=1),
            levels.new_ones(len(levels), 1, dtype=torch.bool),
            1,
        )


class KaldiFrontEnd(nn.Module):
    """Log-mel filter bank of Kaldi at 16 kHz: 25 ms Hann windows every 10 ms, 128 bands, as ImageBind takes it."""

    sample_rate = 16000

    def __init__(self, *, n_mels: int = 128) -> None:
        super().__init__()
        self._frame, self._hop, self._n_fft = 400, 160, 512
        band = (20.0, self.sample_rate / 2)
        filters = mel_filters(self._n_fft, n_mels, sample_rate=self.sample_rate, band=band, scale="kaldi")
        self.register_buffer("mel", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self._frame, periodic=False), persistent=False)
        self.mel: Tensor
        self.window: Tensor

    def forward(self, waveform: Float32[Tensor, "b n"]) -> Float32[Tensor, "b t m"]:
        """Logarithm of the power in bands; waveforms have at least one frame of 400 samples."""
        frames = waveform.unfold(-1, self._frame, self._hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=self._n_fft)
        power = (spectrum.real.square() + spectrum.imag.square()) @ self.mel
        return torch.log(power.clamp_min(_KALDI_FLOOR))


def window_starts(n: int, length: int, *, fewest: int = 1) -> list[int]:
    """Where windows of `length` samples begin that together cover `n` samples, evenly, as few as possible."""
    count = max(fewest, math.ceil(n / length))
    return [round(index * max(0, n - length) / max(1, count - 1)) for index in range(count)]


def reflect_to_multiple(waveform: Float32[Tensor, "b n"], multiple: int) -> Float32[Tensor, "b m"]:
    """Extend the end by its mirror image, several times if need be, as numpy does it, to a whole number of steps."""
    n = waveform.shape[-1]
    wanted = -(-n // multiple) * multiple
    return waveform[:, _mirrored(n, wanted, waveform.device)] if wanted > n else waveform


def _mirrored(n: int, wanted: int, device: torch.device) -> Int64[Tensor, " m"]:
    places = torch.arange(wanted, device=device)
    if n == 1:
        return torch.zeros_like(places)
    turned = places % (2 * (n - 1))
    return torch.minimum(turned, 2 * (n - 1) - turned)
