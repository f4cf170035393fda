"""What every query encoder can do, and the table of encoders."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.errors import ModelError, UsageError
from marssep.query.augment import augment_picture
from marssep.query.heads import MixtureHead
from marssep.query.hearing import AudioParts, cut_windows
from marssep.query.readings import Readings
from marssep.runtime.fusing import MODALITIES, Modality

_BATCH = 64  # texts or pictures at once: bounds the memory


class QueryEncoder(nn.Module, ABC):
    """Frozen trunks and a head per modality; all three modalities share one unit sphere.

    Subclasses give the features; the heads are ours. The encoder stays in evaluation mode: the separator must not see
    another embedding in training than in use. Whoever trains the heads switches `encoder.heads` alone.

    Attributes:
        name: what `load_encoder` is called with; for `open` and `tiny` that is the key in `ENCODERS`.
        trunks: name of the trunks with their weights: features are cached under it.
        dimension: of the shared space.
        heads: `text`, `audio`, `image`, as far as it takes them: features -> unit-norm embeddings.
        heads_path: file with the heads, if the name says one.
        fingerprint: changes whenever the embeddings may change; for caches and model cards.
    """

    name: str

    def __init__(self, dimension: int, heads: dict[str, nn.Module], fingerprint: str) -> None:
        super().__init__()
        self.dimension = dimension
        self.heads = nn.ModuleDict(heads)
        self.fingerprint = fingerprint
        self.trunks = self.name
        self.heads_path: Path | None = None
        self._names: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    @abstractmethod
    def text_features(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Trunk features of texts."""

    @abstractmethod
    def audio_features(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """Trunk features of waveforms of any rate and length; differentiable."""

    def audio_crops(
        self, waveform: Float32[Tensor, " n"], sample_rate: int, spans: Sequence[tuple[float, float]]
    ) -> Float32[Tensor, "k f"]:
        """Trunk features of parts of one recording.

        Args:
            waveform: the recording.
            sample_rate: Hz.
            spans: begin and end of each part, as shares of the length.
        """
        n = waveform.shape[-1]
        edges = [(min(int(begin * n), n - 1), max(int(end * n), int(begin * n) + 1)) for begin, end in spans]
        return torch.cat([self.audio_features(waveform[None, begin:end], sample_rate) for begin, end in edges])

    def audio_parts(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> AudioParts:
        """Trunk features of waveforms and of their patches of about a second."""
        windows = cut_windows(waveform, sample_rate)
        features = [self.audio_features(window, sample_rate) for window in windows.unbind(1)]
        whole = self.audio_features(waveform, sample_rate)
        return AudioParts(whole, torch.stack(features, dim=1), windows.square().mean(-1))

    @abstractmethod
    def image_features(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """Trunk features of pictures of any size and mode."""

    def image_variants(self, image: Image.Image, count: int, *, seed: int) -> Float32[Tensor, "k f"]:
        """Trunk features of random variants of a picture, to train on.

        Args:
            image: the picture.
            count: k.
            seed: of the variation, >= 0.
        """
        generators = [np.random.default_rng([seed, index]) for index in range(count)]
        return self.image_features([augment_picture(image, generator) for generator in generators])

    def embed_text(self, texts: Sequence[str]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of texts."""
        parts = [self.text_features(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        return self._project("text", torch.cat(parts))

    def embed_names(self, names: tuple[str, ...]) -> Float32[Tensor, "b d"]:
        """As `embed_text`, for texts that are asked for again and again: they are embedded once for the same heads."""
        key = self.fingerprint, names
        if key not in self._names:
            self._names[key] = self.embed_text(names) if names else torch.zeros(0, self.dimension, device=self.device)
        return self._names[key]

    def embed_audio(self, waveform: Float32[Tensor, "b n"], *, sample_rate: int) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of waveforms.

        Args:
            waveform: on any device; moved to that of the encoder.
            sample_rate: Hz.

        Raises:
            UsageError: not `[b, n]`, no samples, or a rate below 1 Hz.
        """
        return self._project("audio", self.audio_features(self._checked(waveform, sample_rate), sample_rate))

    def hear(self, waveform: Float32[Tensor, "b n"], *, sample_rate: int) -> AudioParts:
        """Embeddings of waveforms, as `embed_audio` has them, and of their patches of about a second.

        Args:
            waveform: on any device; moved to that of the encoder.
            sample_rate: Hz.

        Raises:
            UsageError: as `embed_audio`.
        """
        parts = self.audio_parts(self._checked(waveform, sample_rate), sample_rate)
        patches = self._project("audio", parts.patches.flatten(0, 1)).unflatten(0, parts.patches.shape[:2])
        return AudioParts(self._project("audio", parts.whole), patches, parts.power)

    def embed_image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of pictures."""
        parts = [self.image_features(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)]
        return self._project("image", torch.cat(parts))

    def read_images(self, images: Sequence[Image.Image]) -> Readings | None:
        """What pictures of one thing may show, or None if this encoder's picture head does not guess.

        Args:
            images: one picture, or several of the same thing, whose guesses are averaged.
        """
        if "image" not in self.heads or not isinstance(self.heads["image"], MixtureHead):
            return None
        head = self.heads["image"]
        return Readings.of(head.places, head.guesses(self.image_features(images)).mean(0))

    def stock_heads(self) -> dict[str, nn.Module] | None:
        """Heads that put all modalities into one space without any training of ours; None where there are none."""
        return None

    def vocabulary(self) -> list[str]:
        """Words beyond any corpus whose neighbours the heads should keep; none by default."""
        return []

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What it takes."""
        return tuple(name for name in MODALITIES if name in self.heads)

    @property
    def needs_heads(self) -> bool:
        """Whether its embeddings mean nothing before heads are loaded; tests and `tiny` do with untrained ones."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever module this one is part of."""
        return super().train(False)

    def _checked(self, waveform: Tensor, sample_rate: int) -> Tensor:
        if waveform.ndim != 2 or waveform.shape[-1] == 0:
            raise UsageError(f"A query waveform must be [b, n] with n > 0, not {list(waveform.shape)}.")
        if sample_rate < 1:
            raise UsageError(f"The sample rate of a query must be at least 1 Hz, not {sample_rate}.")
        return waveform.to(self.device, torch.float32)

    def _project(self, modality: Modality, features: Tensor) -> Tensor:
        made: Tensor = self.heads[modality](features)
        return made


def load_encoder(name: str, *, heads: Path | None = None) -> QueryEncoder:
    """Load an encoder, ready for use, on the CPU.

    Args:
        name: `open`, `tiny`, or one with parts, `transformers:clap=FOLDER,...` or `imagebind:FOLDER`.
        heads: safetensors file of other heads than those that the name says or the package has.

    Raises:
        UsageError: unknown name.
        ModelError: weights were not fetched, the heads do not fit, or there are none and there must be.
    """
    encoder = new_encoder(name)
    path = heads or encoder.heads_path or shipped_heads(name)
    if path is not None:
        load_heads(encoder, path)
    elif encoder.needs_heads:
        raise ModelError(
            f"{name}: its parts lie in different spaces; train heads that join them "
            f"('marssep train align --encoder {name} ...') and add heads=FILE to the name."
        )
    return encoder


def new_encoder(name: str) -> QueryEncoder:
    """Load an encoder whose heads are not trained.

    Raises:
        UsageError: unknown name.
        ModelError: weights were not fetched.
    """
    key, _, parts = name.partition(":")
    if key not in ENCODERS:
        raise UsageError(f"No query encoder is called '{key}'; known: {', '.join(ENCODERS)}.")
    return ENCODERS[key](parts).requires_grad_(False).eval()


def shipped_heads(name: str) -> Path | None:
    """Heads that come with the package, if there are any for this encoder."""
    path = Path(__file__).parent.parent / "weights" / name / "heads.safetensors"
    return path if path.is_file() else None


def load_heads(encoder: QueryEncoder, path: Path, *, modalities: Sequence[Modality] | None = None) -> None:
    """Load heads into an encoder.

    Args:
        encoder: its heads are overwritten.
        path: safetensors file.
        modalities: whose heads are taken from the file, by default all; the others stay as they are.

    Raises:
        ModelError: missing or damaged file, or of another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        state = {key: value.float() for key, value in load(data).items()}
        for modality in modalities or encoder.modalities:
            prefix = f"{modality}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            encoder.heads[modality].load_state_dict(own)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give a heads.safetensors file.") from None
    except (SafetensorError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: these are no heads of the encoder '{encoder.name}' ({cause}); train or install them again."
        ) from None
    encoder.fingerprint = f"{encoder.trunks}-{hashlib.sha256(data).hexdigest()[:16]}"


def save_heads(encoder: QueryEncoder, path: Path) -> None:
    """Write the heads in half precision, atomically, and load them back so that everybody sees the rounded values."""
    from safetensors.torch import save

    state = {key: value.detach().cpu().half().contiguous() for key, value in encoder.heads.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(state))
    partial.replace(path)
    load_heads(encoder, path)


def _build_open(parts: str) -> QueryEncoder:
    from marssep.query.open_encoder import OpenEncoder

    _take_none("open", parts)
    return OpenEncoder()


def _build_tiny(parts: str) -> QueryEncoder:
    from marssep.query.tiny_encoder import TinyEncoder

    _take_none("tiny", parts)
    return TinyEncoder()


def _build_transformers(parts: str) -> QueryEncoder:
    from marssep.query.pretrained.transformers_encoder import TransformersEncoder

    return TransformersEncoder(parts)


def _build_imagebind(parts: str) -> QueryEncoder:
    from marssep.query.pretrained.imagebind_encoder import ImageBindEncoder

    return ImageBindEncoder(parts)


def _take_none(name: str, parts: str) -> None:
    if parts:
        raise UsageError(f"The query encoder '{name}' has no parts to choose ('{parts}'); call it '{name}'.")


ENCODERS: dict[str, Callable[[str], QueryEncoder]] = {
    "open": _build_open,
    "tiny": _build_tiny,
    "transformers": _build_transformers,
    "imagebind": _build_imagebind,
}
"""Encoders by what their name begins with; each takes what follows the colon."""
