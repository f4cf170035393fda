"""YAMNet (AudioSet, 521 classes) as a differentiable torch module: waveform at any rate to a 1024-d vector."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor, nn

from marssep.query.mel import mel_filters

SAMPLE_RATE = 16000
N_CLASSES = 521
_WINDOW, _HOP, _N_FFT = 400, 160, 512  # 25 ms, 10 ms
_N_MELS, _MIN_HZ, _MAX_HZ = 64, 125.0, 7500.0
_LOG_OFFSET = 1e-3  # of the original YAMNet; keeps the logarithm and its gradient finite in silence
_FRAMES, _PATCH_HOP = 96, 48  # 0.96 s patches every 0.48 s
_LEVEL, _QUIET = 0.1, 1e-3  # rms every clip is brought to (-20 dBFS); below -60 dBFS the gain stops growing
_SILENT_POWER = 1e-6  # of a patch; keeps the slope of its weight finite
_CHUNK = 64  # patches at once when no gradient is asked for: bounds the memory, and is fastest per patch on a CPU
# MobileNet v1: (stride of the depthwise, channels of the pointwise convolution)
_BLOCKS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))


class AudioTrunk(nn.Module):
    """Log-mel patches -> MobileNet v1 -> mean over patches, louder ones counting more.

    Every sample counts: the end is padded with zeros to a whole patch, so clips of any length give a vector.
    The level is evened out first, which makes a quiet query and a loud one equal.
    """

    n_features = 1024

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(1, 32, 3, stride=2)
        convolutions, width = [stem], 32
        for stride, channels in _BLOCKS:
            padding = 1 if stride == 1 else 0  # see `convolve` for the others
            convolutions.append(nn.Conv2d(width, width, 3, stride=stride, padding=padding, groups=width))
            convolutions.append(nn.Conv2d(width, channels, 1))
            width = channels
        self.convolutions = nn.ModuleList(convolutions)
        self.classifier = nn.Linear(width, N_CLASSES)
        filters = mel_filters(_N_FFT, _N_MELS, sample_rate=SAMPLE_RATE, band=(_MIN_HZ, _MAX_HZ))
        self.register_buffer("mel", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.mel: Tensor
        self.window: Tensor

    def forward(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b 1024"]:
        """Features of waveforms at `sample_rate` Hz."""
        patches = self.patches(waveform, sample_rate)
        embeddings = self.embed_patches(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        return pool_patches(embeddings, patches)

    def crops(
        self, waveform: Float32[Tensor, " n"], sample_rate: int, spans: Sequence[tuple[float, float]]
    ) -> Float32[Tensor, "k 1024"]:
        """Features of parts of one recording, given as shares of its length; the convolutions run once for all."""
        patches = self.patches(waveform[None], sample_rate)
        embeddings, n = self.embed_patches(patches[0])[None], patches.shape[1]
        edges = [(min(int(begin * n), n - 1), max(math.ceil(end * n), int(begin * n) + 1)) for begin, end in spans]
        return torch.cat([pool_patches(embeddings[:, begin:end], patches[:, begin:end]) for begin, end in edges])

    def patches(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b p 96 64"]:
        """Log-mel patches of 0.96 s with half overlap."""
        waveform = resample_waveform(_even_level(waveform), from_rate=sample_rate, to_rate=SAMPLE_RATE)
        frames = max(_FRAMES, math.ceil(max(0, waveform.shape[-1] - _WINDOW) / _HOP) + 1)
        frames += -(frames - _FRAMES) % _PATCH_HOP
        waveform = F.pad(waveform, (0, _WINDOW + (frames - 1) * _HOP - waveform.shape[-1]))
        spectrum = torch.fft.rfft(waveform.unfold(-1, _WINDOW, _HOP) * self.window, n=_N_FFT)
        log_mel = torch.log(spectrum.abs() @ self.mel + _LOG_OFFSET)
        return log_mel.unfold(1, _FRAMES, _PATCH_HOP).transpose(2, 3)

    def embed_patches(self, patches: Float32[Tensor, "p 96 64"]) -> Float32[Tensor, "p 1024"]:
        """MobileNet features of every patch."""
        step = patches.shape[0] if torch.is_grad_enabled() and patches.requires_grad else _CHUNK
        return torch.cat([self.convolve(part.unsqueeze(1)) for part in patches.split(step)])

    def convolve(self, grid: Float32[Tensor, "p 1 96 64"]) -> Float32[Tensor, "p 1024"]:
        """Features of log-mel patches as pictures of one channel."""
        for convolution in self.convolutions:
            if convolution.stride == (2, 2):  # "same" as TensorFlow pads it: all sizes are even before a stride
                grid = F.pad(grid, (0, 1, 0, 1))
            grid = F.relu(convolution(grid))
        return grid.mean((2, 3))


def patch_power(patches: Float32[Tensor, "b p 96 64"]) -> Float32[Tensor, "b p"]:
    """Mean power of the mel bands of every patch, after the clip's level was evened out."""
    return (patches.exp() - _LOG_OFFSET).square().mean((2, 3))


def pool_patches(
    embeddings: Float32[Tensor, "b p 1024"], patches: Float32[Tensor, "b p 96 64"]
) -> Float32[Tensor, "b 1024"]:
    """Mean over patches, the louder the heavier (square root of the level): the pauses of a bark say nothing."""
    weights = (patch_power(patches) + _SILENT_POWER).pow(0.25)
    return (embeddings * (weights / weights.sum(1, keepdim=True)).unsqueeze(-1)).sum(1)


def resample_waveform(waveform: Tensor, *, from_rate: int, to_rate: int) -> Tensor:
    """Differentiable resampling by cutting or extending the spectrum; exact for any pair of rates.

    Args:
        waveform: `[..., n]`.
        from_rate: Hz.
        to_rate: Hz.

    Returns:
        `[..., ceil(n * to_rate / from_rate)]`.
    """
    if from_rate == to_rate:
        return waveform
    n = waveform.shape[-1]
    unit = from_rate // math.gcd(from_rate, to_rate)  # lengths that are whole at both rates
    margin = from_rate // 50  # 20 ms of silence keep the end from ringing into the beginning
    padded = -(-(n + margin) // unit) * unit
    made = padded // unit * (to_rate * unit // from_rate)
    spectrum = torch.fft.rfft(waveform, n=padded)
    resampled = torch.fft.irfft(spectrum[..., : made // 2 + 1], n=made) * (made / padded)
    return resampled[..., : -(-n * to_rate // from_rate)]


def _even_level(waveform: Tensor) -> Tensor:
    # the square root needs the offset: its slope at 0 would make the gradient of silence infinite
    rms = (waveform.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return waveform * (_LEVEL / rms.clamp_min(_QUIET))
