"""Load a model, ask for a sound, get it out of a recording."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import marssep
from marssep.audio import Audio, check_waveform, read_audio
from marssep.errors import ModelError
from marssep.model import LoadedModel, load_model
from marssep.query import Query, QueryEncoder, QueryParts, load_encoder
from marssep.separate.asked import Asked
from marssep.separate.files import FileJob, FileResult, FileSettings
from marssep.separate.naming import Naming, ResultPaths, describe_query
from marssep.separate.progress import Watch
from marssep.separate.provenance import Provenance, fingerprint
from marssep.separate.separation import Separation
from marssep.separate.sources import ArraySource, check_rate
from marssep.separate.streaming import Stream, Verdict

Recording = str | os.PathLike[str] | tuple[np.ndarray, int] | Audio
"""A file, or a waveform `[n]` or `[c, n]` with its sample rate in hertz."""


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
        gate: bool = True,
        adapt: bool = True,
        **query: Unpack[QueryParts],
    ) -> Separation:
        """Get a sound out of a recording.

        Args:
            input: the recording; any rate, any number of channels, any length from one sample.
            gate: turn the target down by the model's `absent_attenuation_db` when the sound seems to be absent.
            adapt: learn from the recording itself what its sounds look like and where they come from
                (`marssep.spectral.adaptation`); otherwise the network's mask is all.
            **query: what is asked for, as the fields of `Query`:
                `text`, the sound in words;
                `audio`, an example of the sound;
                `image`, a picture of what makes it;
                `like`, where in the recording it can be heard, `(begin, end)` in seconds, or several of them;
                `negative`, in words, a sound to keep out of the target, or several;
                `negative_in`, where that works, `logits` or `embedding`;
                `weights`, of the modalities given, relative to each other; by default text 2, image 2, audio 1.

        Raises:
            InputError: if the recording or the query's files cannot be used.
            UsageError: if nothing is asked for.
        """
        return self.separate_query(input, Query(**query), gate=gate, adapt=adapt)

    def separate_query(self, input: Recording, query: Query, *, gate: bool = True, adapt: bool = True) -> Separation:
        """As `separate`, with the query as one value."""
        return self.separate_queries(input, [query], gate=gate, adapt=adapt)[0]

    def separate_queries(
        self,
        input: Recording,
        queries: Sequence[Query],
        *,
        gate: bool = True,
        adapt: bool = True,
        shares: bool = False,
        watch: Watch | None = None,
    ) -> list[Separation]:
        """Several queries in one pass; the network's encoder sees the recording once.

        Args:
            input: as of `separate`.
            queries: what is asked for.
            gate: as of `separate`.
            adapt: as of `separate`.
            shares: let the queries compete: their masks and that of the rest add up to one.
            watch: called on the way; may cancel by returning False.

        Raises:
            InputError: if the recording or the queries' files cannot be used.
            CancelledError: if the watch says so.
        """
        loaded = _load(input)
        sample_rate = loaded.audio.sample_rate
        waveform = torch.from_numpy(np.ascontiguousarray(loaded.audio.waveform))
        source = ArraySource(waveform, sample_rate, loaded.name)
        asked = Asked.of(queries, self.encoder, shares=shares, source=source)
        with Stream(source, self.model, self.encoder, asked, watch=watch) as stream:
            stream.propose()
            if adapt:
                stream.adapt()
            targets = stream.whole(waveform)
            verdicts = stream.verdicts(gate=gate)
            masks = torch.from_numpy(stream.masks.read(slice(None)))
        results = []
        for query, free, mask, verdict in zip(queries, targets, masks, verdicts, strict=True):
            target = free.mul_(verdict.gain)
            results.append(
                Separation(
                    target=target.numpy(),
                    residual=(waveform - target).numpy(),
                    grid_mask=mask.numpy(),
                    presence=verdict.presence,
                    present=verdict.present,
                    confidence=np.array(verdict.confidence, dtype=np.float32),
                    sample_rate=sample_rate,
                    spectral=self.model.spectral,
                    provenance=self.provenance(
                        query,
                        verdict,
                        input=loaded.name,
                        input_sha256=loaded.sha256,
                        subtype=loaded.audio.subtype,
                        settings=FileSettings(gate=gate, adapt=adapt, shares=shares).decisive(),
                    ),
                )
            )
        return results

    def separate_file(
        self,
        path: str | os.PathLike[str],
        queries: Sequence[Query],
        output: str | os.PathLike[str] | Sequence[ResultPaths] = "separated",
        *,
        settings: FileSettings | None = None,
        watch: Watch | None = None,
    ) -> list[FileResult]:
        """Separate a file of any length from disk to disk, in constant memory.

        Args:
            path: the recording.
            queries: what is asked for, all in one pass.
            output: folder of the results, or where each query's results go.
            settings: what to write and how.
            watch: called on the way; may cancel by returning False, and then nothing is left behind.

        Raises:
            InputError: if the recording or the queries' files cannot be used.
            OutputError: if the results cannot be written.
            CancelledError: if the watch says so.
        """
        settings = settings or FileSettings()
        if isinstance(output, str | os.PathLike):
            output = Naming(output).paths(path, queries, shares=settings.shares)
        return FileJob(self, Path(path), queries, output, settings=settings).run(watch)

    def fingerprint(self, queries: Sequence[Query], input_sha256: str, settings: FileSettings | None = None) -> str:
        """A checksum of all that decides a result of `separate_file`.

        Args:
            queries: the one that the result is of; with shares, it and then all.
            input_sha256: of the recording's bytes.
            settings: as of `separate_file`.

        Raises:
            InputError: if a query's file cannot be read.
        """
        settings = settings or FileSettings()
        decisive = settings.decisive() | {"negative_in": [query.negative_in for query in queries]}
        decisive["adapt"] = settings.adaptation
        return fingerprint(queries, input_sha256=input_sha256, model=self.identity(), settings=decisive)

    def identity(self) -> dict[str, str]:
        """What of the model decides a result: checksums of weights and of settings (as thresholds), and its encoder."""
        config = hashlib.sha256(self.model.config.model_dump_json().encode()).hexdigest()
        return {"model_sha256": self.model.sha256, "config_sha256": config, "encoder": self.encoder.fingerprint}

    def provenance(
        self,
        query: Query,
        verdict: Verdict,
        *,
        input: str,
        input_sha256: str,
        subtype: str,
        settings: dict[str, Any],
    ) -> Provenance:
        """Where a result of this separator comes from; arguments as the attributes of `Provenance`."""
        return Provenance(
            input=input,
            input_sha256=input_sha256,
            subtype=subtype,
            query=describe_query(query),
            model=self.name,
            model_sha256=self.model.sha256,
            presence_threshold=self.model.config.presence_threshold,
            attenuated_db=verdict.attenuated_db,
            versions={"marssep": marssep.__version__, "torch": str(torch.__version__)},
            settings=settings,
        )

    def embed(self, query: Query) -> Float[Tensor, "q d"]:
        """The target's embedding, followed by those of the negatives that work in the logits."""
        return Asked.of([query], self.encoder).rows()[0]


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
    check_rate(loaded.audio.sample_rate, name=loaded.name)
    return loaded
