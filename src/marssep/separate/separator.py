"""Load a model, ask for a sound, get it out of a recording."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import marssep
from marssep.audio import Audio, check_waveform, read_audio
from marssep.errors import InputError, ModelError
from marssep.model import LoadedModel, load_model
from marssep.query import Modality, Query, QueryEncoder, Readings, embed_query, load_encoder, read_query
from marssep.separate.blocks import apply_mask, grid_power
from marssep.separate.chunks import propose
from marssep.separate.presence import Evidence, listen
from marssep.separate.separation import Provenance, Separation
from marssep.separate.settling import settle

if TYPE_CHECKING:
    from PIL.Image import Image

Recording = str | os.PathLike[str] | tuple[np.ndarray, int] | Audio
"""A file, or a waveform `[n]` or `[c, n]` with its sample rate in hertz."""

_LOWEST_RATE, _HIGHEST_RATE = 1000, 1_536_000


@dataclass(frozen=True, slots=True)
class _Input:
    audio: Audio
    name: str
    sha256: str


class Separator:
    """A model and its query encoder.

    Example:
        >>> from marssep import Separator
        >>> separator = Separator.load()  # doctest: +SKIP
        >>> result = separator.separate("in.wav", text="dog barking")  # doctest: +SKIP
        >>> result.save("out/")  # doctest: +SKIP

    Args:
        model: as `marssep.model.load_model` returns it.
        encoder: the query encoder the model was trained with.
        name: what to call the model in sidecars.
    """

    def __init__(self, model: LoadedModel, encoder: QueryEncoder, *, name: str = "unnamed") -> None:
        if encoder.dimension != model.config.query_dimension:
            raise ModelError(
                f"{name}: the model expects queries of {model.config.query_dimension} numbers, the encoder "
                f"'{encoder.name}' gives {encoder.dimension}; load the encoder '{model.config.encoder}'."
            )
        self.model = model
        self.encoder = encoder
        self.name = name

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str] | None = None) -> Self:
        """Load a model and its query encoder; nothing is downloaded.

        Args:
            name_or_path: name of a shipped model or a folder with a model; None is the shipped default.

        Raises:
            ModelError: if model or encoder weights are missing or damaged.
        """
        name = "default" if name_or_path is None else os.fspath(name_or_path)
        model = load_model(name)
        return cls(model, load_encoder(model.config.encoder), name=name)

    def separate(
        self,
        input: Recording,  # the word users look for
        *,
        text: str | None = None,
        audio: Recording | None = None,
        image: "str | os.PathLike[str] | Image | None" = None,
        negative: str | None = None,
        weights: Mapping[Modality, float] | None = None,
        gate: bool = True,
    ) -> Separation:
        """Get a sound out of a recording.

        Args:
            input: the recording; any rate, any number of channels, any length from one sample.
            text: the sound in words.
            audio: an example of the sound.
            image: a picture of what makes it.
            negative: in words, a sound to keep out of the target.
            weights: of the modalities given, relative to each other; by default text 2, image 2, audio 1.
            gate: turn the target down by the model's `absent_attenuation_db` when the sound seems to be absent.

        Raises:
            InputError: if the recording or the query's files cannot be used.
            UsageError: if nothing is asked for.
        """
        if isinstance(audio, Audio):
            audio = (audio.waveform, audio.sample_rate)
        query = Query(text=text, audio=audio, image=image, negative=negative, weights=weights)
        return self.separate_query(input, query, gate=gate)

    def separate_query(self, input: Recording, query: Query, *, gate: bool = True) -> Separation:
        """As `separate`, with the query as one value."""
        readings = read_query(query, self.encoder)
        embedding = self.embed(query, readings)
        source = _load(input)
        sample_rate = source.audio.sample_rate
        waveform = torch.from_numpy(np.ascontiguousarray(source.audio.waveform))
        config, spectral = self.model.config, self.model.spectral
        with torch.inference_mode():
            power = grid_power(waveform, sample_rate, spectral)
            settled = None
            if readings is not None:
                settled = settle(
                    self.model, self.encoder, readings, mixture=waveform, sample_rate=sample_rate, power=power
                )
                embedding[0] = settled.embedding
            proposal = propose(self.model.network, power, embedding, chunk_steps=config.chunk_steps)
            target = apply_mask(waveform, proposal.mask, sample_rate, spectral)
            match = 0.0
            if config.presence_match:
                seconds = self.model.chunk_seconds
                match = listen(target, sample_rate, embedding[0], self.encoder, seconds=seconds)
            logit = proposal.presence if settled is None else settled.presence
            presence = Evidence(logit, match).presence(config)
            present = presence >= config.presence_threshold
            attenuated_db = config.absent_attenuation_db if gate and not present else 0.0
            target *= 10.0 ** (-attenuated_db / 20.0)
            residual = waveform - target
        return Separation(
            target=target.numpy(),
            residual=residual.numpy(),
            grid_mask=proposal.mask.numpy(),
            presence=presence,
            present=present,
            sample_rate=sample_rate,
            spectral=spectral,
            provenance=Provenance(
                input=source.name,
                input_sha256=source.sha256,
                subtype=source.audio.subtype,
                query=_describe(query),
                model=self.name,
                model_sha256=self.model.sha256,
                presence_threshold=config.presence_threshold,
                attenuated_db=attenuated_db,
                versions={"marssep": marssep.__version__, "torch": str(torch.__version__)},
            ),
        )

    def embed(self, query: Query, readings: Readings | None = None) -> Float[Tensor, "q d"]:
        """The target's embedding and, if a negative works in the logits, that as a second row.

        Args:
            query: what is asked for.
            readings: of the same query, if it was read already; saves looking at the picture again.
        """
        with torch.inference_mode():
            rows = [embed_query(query, self.encoder) if readings is None else readings.embedding]
            if query.negative and query.negative_in == "logits":
                rows.append(self.encoder.embed_text([query.negative])[0])
            return torch.stack(rows)


def _load(input: Recording) -> _Input:
    if isinstance(input, Audio):
        input = (input.waveform, input.sample_rate)
    if isinstance(input, tuple):
        samples, sample_rate = input
        waveform = check_waveform(samples, name="waveform")
        loaded = _Input(Audio(waveform, int(sample_rate)), "waveform", hashlib.sha256(waveform.tobytes()).hexdigest())
    else:
        path = Path(input)
        audio = read_audio(path)
        with path.open("rb") as file:
            loaded = _Input(audio, str(path), hashlib.file_digest(file, "sha256").hexdigest())
    if not _LOWEST_RATE <= loaded.audio.sample_rate <= _HIGHEST_RATE:
        raise InputError(
            f"{loaded.name}: a sample rate of {loaded.audio.sample_rate} Hz is outside {_LOWEST_RATE} to "
            f"{_HIGHEST_RATE} Hz; check the header or resample first."
        )
    return loaded


def _describe(query: Query) -> dict[str, Any]:
    """The query in JSON's terms: files by name, waveforms and pictures in memory by what they are."""

    def named(value: Any) -> str | None:
        if value is None or isinstance(value, str | os.PathLike):
            return None if value is None else os.fspath(value)
        return "waveform" if isinstance(value, tuple) else "picture"

    return {
        "text": query.text,
        "audio": named(query.audio),
        "image": named(query.image),
        "weights": dict(query.weights) if query.weights else None,
        "negative": query.negative,
    }
