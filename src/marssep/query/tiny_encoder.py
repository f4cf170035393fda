"""The encoder `tiny`: seeded random heads on simple statistics; same behaviour as `open`, no weights, for tests."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.query.encoder import QueryEncoder
from marssep.query.heads import ProjectionHead
from marssep.query.trunks.audio import resample_waveform
from marssep.runtime.pictures import flatten_image

_DIMENSION = 16
_TEXT_FEATURES = 64
_RATE, _FRAME, _HOP = 16000, 512, 256
_BANDS = 32
_SIDE = 8


class TinyEncoder(QueryEncoder):
    """Hashed character trigrams, band levels and an 8 x 8 picture. Its modalities do not agree unless trained."""

    name = "tiny"

    def __init__(self) -> None:
        sizes = {"text": _TEXT_FEATURES, "audio": 2 * _BANDS, "image": 3 * _SIDE * _SIDE}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            heads: dict[str, nn.Module] = {
                part: ProjectionHead(size, _DIMENSION, hidden=_DIMENSION) for part, size in sizes.items()
            }
        super().__init__(_DIMENSION, heads, "tiny-1")

    def text_features(self, texts: Sequence[str]) -> Float32[Tensor, "b 64"]:
        """Counts of hashed trigrams."""
        counts = torch.zeros(len(texts), _TEXT_FEATURES)
        for row, text in zip(counts, texts, strict=True):
            padded = f"  {text.lower()} "
            for start in range(len(padded) - 2):
                row[zlib.crc32(padded[start : start + 3].encode()) % _TEXT_FEATURES] += 1
        return counts.to(self.device)

    def audio_features(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b 64"]:
        """Mean and spread over time of the logarithmic level in 32 bands."""
        waveform = resample_waveform(waveform, from_rate=sample_rate, to_rate=_RATE)
        frames = max(2, -(-waveform.shape[-1] // _HOP))
        waveform = nn.functional.pad(waveform, (0, _FRAME + (frames - 1) * _HOP - waveform.shape[-1]))
        power = torch.fft.rfft(waveform.unfold(-1, _FRAME, _HOP)).abs().square()[..., 1:]
        levels = torch.log(power.unflatten(-1, (_BANDS, -1)).mean(-1) + 1e-6)
        return torch.cat([levels.mean(1), (levels.var(1) + 1e-6).sqrt()], dim=-1)

    def image_features(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b 192"]:
        """Pictures shrunk to 8 x 8."""
        rows = [np.asarray(flatten_image(image).resize((_SIDE, _SIDE)), dtype=np.float32) / 255 for image in images]
        return torch.from_numpy(np.stack(rows)).flatten(1).to(self.device)
