"""The query encoder `open` without torch: numpy, `tokenizers` and Pillow prepare, onnxruntime runs the trunks."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from scipy import fft

from marssep.runtime.settling import Readings

if TYPE_CHECKING:
    from PIL import Image

Graph = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
"""A loaded ONNX graph: inputs by name to outputs in order."""

# The front end of `marssep.query.trunks.audio`, where the reasons are; the tests hold the two against each other.
_RATE = 16000
_WINDOW, _HOP, _N_FFT = 400, 160, 512
_N_MELS, _MIN_HZ, _MAX_HZ = 64, 125.0, 7500.0
_LOG_OFFSET = 1e-3
_FRAMES, _PATCH_HOP = 96, 48
_LEVEL, _QUIET = 0.1, 1e-3
_SILENT_POWER = 1e-6
_CHUNK = 64  # patches at once: bounds the memory


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """As `marssep.query.hearing.AudioParts`, of one sound.

    Attributes:
        whole: of the sound.
        patches: of each patch.
        power: of each patch.
    """

    whole: Float32[np.ndarray, " f"]
    patches: Float32[np.ndarray, "p f"]
    power: Float32[np.ndarray, " p"]


class AudioEncoder:
    """Waveforms of any rate and length to unit-norm embeddings.

    Args:
        trunk: log-mel patches to features.
        head: features to an embedding.
    """

    def __init__(self, trunk: Graph, head: Graph) -> None:
        self._trunk, self._head = trunk, head
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)
        self._mel = _mel_filters()

    def embed(self, waveform: Float32[np.ndarray, " n"], sample_rate: int) -> Float32[np.ndarray, " d"]:
        """Embedding of a waveform at `sample_rate` Hz."""
        return self.project(self.features(waveform, sample_rate).whole[None])[0]

    def features(self, waveform: Float32[np.ndarray, " n"], sample_rate: int) -> "AudioFeatures":
        """What the trunk makes of a waveform and of its patches."""
        patches = self.patches(waveform, sample_rate)
        parts = [self._trunk({"patches": patches[at : at + _CHUNK]})[0] for at in range(0, len(patches), _CHUNK)]
        power = np.square(np.exp(patches) - _LOG_OFFSET).mean((1, 2))
        weights = (power + _SILENT_POWER) ** 0.25
        features = np.concatenate(parts)
        whole = (features * (weights / weights.sum())[:, None]).sum(0)
        return AudioFeatures(whole.astype(np.float32), features, power)

    def project(self, features: Float32[np.ndarray, "b f"]) -> Float32[np.ndarray, "b d"]:
        """Unit-norm embeddings of features."""
        embeddings: np.ndarray = self._head({"features": features})[0]
        return embeddings

    def patches(self, waveform: Float32[np.ndarray, " n"], sample_rate: int) -> Float32[np.ndarray, "p 96 64"]:
        """Log-mel patches of 0.96 s with half overlap."""
        rms = math.sqrt(float(np.square(waveform).mean()) + 1e-12)
        waveform = resample_by_spectrum(waveform * np.float32(_LEVEL / max(rms, _QUIET)), sample_rate, _RATE)
        frames = max(_FRAMES, math.ceil(max(0, len(waveform) - _WINDOW) / _HOP) + 1)
        frames += -(frames - _FRAMES) % _PATCH_HOP
        padded = np.pad(waveform, (0, _WINDOW + (frames - 1) * _HOP - len(waveform)))
        framed = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
        log_mel = np.log(np.abs(fft.rfft(framed * self._window, n=_N_FFT, axis=-1)) @ self._mel + _LOG_OFFSET)
        patches = np.lib.stride_tricks.sliding_window_view(log_mel, _FRAMES, axis=0)[::_PATCH_HOP]
        return np.ascontiguousarray(patches.transpose(0, 2, 1), dtype=np.float32)


class TextEncoder:
    """Texts to unit-norm embeddings.

    Args:
        tokenizer: a `tokenizers.Tokenizer`'s JSON.
        graph: token numbers to an embedding.
        longest: tokens a text is cut at.
    """

    def __init__(self, tokenizer: bytes, graph: Graph, *, longest: int = 256) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_buffer(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        self._graph = graph

    def embed(self, text: str) -> Float32[np.ndarray, " d"]:
        """Embedding of one text."""
        tokens = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        embedding: np.ndarray = self._graph({"tokens": tokens})[0][0]
        return embedding


class ImageEncoder:
    """What a picture may show.

    Args:
        trunks: pixels to features, one graph for each of `marssep.runtime.pictures.SIDES`.
        head: features of all trunks to chances of the classes.
        places: of the classes, unit norm.
        kept: readings of a picture that are kept.
    """

    def __init__(self, trunks: Sequence[Graph], head: Graph, places: Float32[np.ndarray, "c d"], *, kept: int) -> None:
        self._trunks, self._head, self._places, self._kept = trunks, head, places, kept

    def read(self, image: "str | os.PathLike[str] | Image.Image") -> Readings:
        """The likeliest readings of a picture, for the mixture to choose between.

        Raises:
            InputError: if it is missing, not a picture, or damaged.
        """
        from marssep.runtime.pictures import SIDES, image_pixels, load_image  # brings PIL

        loaded = load_image(image)
        pairs = zip(self._trunks, SIDES, strict=True)
        features = [trunk({"pixels": image_pixels([loaded], side)})[0] for trunk, side in pairs]
        chances = self._head({"features": np.concatenate(features, axis=1)})[0][0]
        return Readings.of(self._places, chances, kept=self._kept)


def resample_by_spectrum(
    waveform: Float32[np.ndarray, " n"], from_rate: int, to_rate: int
) -> Float32[np.ndarray, " m"]:
    """Resample by cutting or extending the spectrum, to `ceil(n * to_rate / from_rate)` samples."""
    if from_rate == to_rate:
        return waveform
    n = len(waveform)
    unit = from_rate // math.gcd(from_rate, to_rate)  # lengths that are whole at both rates
    padded = -(-(n + from_rate // 50) // unit) * unit  # 20 ms of silence keep the end from ringing into the beginning
    made = padded // unit * (to_rate * unit // from_rate)
    spectrum = fft.rfft(waveform, n=padded)[: made // 2 + 1]
    resampled = fft.irfft(spectrum, n=made) * np.float32(made / padded)
    return resampled[: -(-n * to_rate // from_rate)]


def _mel_filters() -> Float32[np.ndarray, "257 64"]:
    """Triangles of height 1 on the HTK mel scale."""
    hertz = np.linspace(0, _RATE / 2, _N_FFT // 2 + 1)
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (_MIN_HZ, _MAX_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, _N_MELS + 2) / 2595) - 1)
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)
