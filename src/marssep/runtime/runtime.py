"""Load an exported model, ask for a sound, get it out of a recording: no torch anywhere."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import numpy as np
from jaxtyping import Float32

from marssep.audio import Audio, AudioFile, check_waveform, read_audio, to_mono
from marssep.errors import ModelError, UsageError
from marssep.runtime.encoders import AudioEncoder, Graph, ImageEncoder, TextEncoder
from marssep.runtime.folder import RuntimeConfig, checked_file, read_config
from marssep.runtime.fusing import Modality, fuse
from marssep.runtime.hearing import Heard, weigh_patches
from marssep.runtime.results import RuntimeFiles, RuntimeSeparation, result_files, write_results
from marssep.runtime.settling import Readings, weigh
from marssep.runtime.streaming import Source, Stream

if TYPE_CHECKING:
    from PIL import Image

_PIECE = 1 << 16  # samples read at once

Recording = str | os.PathLike[str] | tuple[np.ndarray, int] | Audio
"""A file, or a waveform `[n]` or `[c, n]` with its sample rate in hertz."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query made ready by `Runtime.ask`.

    Attributes:
        rows: embedding of the target, followed by those of sounds to keep out of it.
        readings: what the target's picture may show, if it was asked for by a picture alone.
    """

    rows: Float32[np.ndarray, "q d"]
    readings: Readings | None = None


class RuntimeQuery(TypedDict, total=False):
    """What is asked for, as keywords: text, audio and image or some of them, or an embedding instead."""

    text: str | None
    """A stored query, or any words if the text encoder was exported."""
    audio: Recording | None
    """An example of the sound, if the audio encoder was exported."""
    image: "str | os.PathLike[str] | Image.Image | None"
    """A picture of it, if the image encoder was exported."""
    embedding: Float32[np.ndarray, " d"] | None
    """A query embedding from elsewhere."""
    negative: str | Sequence[str] | None
    """A stored query, or words, for a sound to keep out of the target; or several."""
    weights: Mapping[Modality, float] | None
    """Of the kinds given, relative to each other; by default text 2, image 2, audio 1."""


class Runtime:
    """An exported model, its stored queries and, if they were exported, its encoders.

    Example:
        >>> from marssep.runtime import Runtime
        >>> runtime = Runtime.load("exported", threads=1)  # doctest: +SKIP
        >>> runtime.separate("in.wav", text="dog barking").target  # doctest: +SKIP

    Args:
        folder: of the exported model; graphs are loaded from it on first use.
        config: of it.
        threads: of onnxruntime; None lets it choose.
    """

    def __init__(self, folder: Path, config: RuntimeConfig, *, threads: int | None = None) -> None:
        self.folder, self.config, self._threads = folder, config, threads
        self._graphs: dict[str, Graph] = {}
        self._network = self._graph("network")
        stored = self._embeddings("queries") if "queries" in config.files else ()
        self._queries = dict(zip(config.queries, stored, strict=True))
        self._audio: AudioEncoder | None = None
        self._text: TextEncoder | None = None
        self._image: ImageEncoder | None = None
        self._rivals = np.zeros((0, config.query_dimension), dtype=np.float32)
        if config.presence.weights.listens:  # a folder that cannot answer is refused before the first recording
            self._audio_encoder()
            self._rivals = self._embeddings("rivals")

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, threads: int | None = None) -> Self:
        """Load what `marssep export` wrote.

        Raises:
            ModelError: if it is missing, damaged or of another format, or onnxruntime is not installed.
        """
        return cls(Path(folder), read_config(Path(folder)), threads=threads)

    def separate(
        self,
        input: Recording,  # the word users look for
        *,
        gate: bool = True,
        adapt: bool = True,
        asked: Asked | None = None,
        **query: Unpack[RuntimeQuery],
    ) -> RuntimeSeparation:
        """Get a sound out of a recording, as `marssep.Separator.separate` does.

        Args:
            input: the recording; any rate, any number of channels, any length from one sample.
            gate: turn the target down when the sound seems to be absent.
            adapt: learn from the recording itself what its sounds look like and where they come from.
            asked: a query from `ask`, embedded once for many recordings; in place of the rest.
            **query: fields of `RuntimeQuery`: at least one of text, audio and image, or an embedding.

        Raises:
            InputError: if the recording, the example or the picture cannot be used.
            ModelError: if what the query needs was not exported.
            UsageError: if nothing is asked for, an embedding comes with something else, or weights do not fit.
        """
        asked = self.ask(asked=asked, **query)
        given = _load(input)
        waveform = given.waveform
        with Stream(Source("recording", given.sample_rate, lambda: [waveform]), self.config) as stream:
            logit, embedding = self._propose(stream, asked, given.sample_rate)
            if adapt:
                stream.adapt()
            target = np.concatenate([target for target, _ in stream.render()], axis=1)
            presence, gain = self._judge(stream, logit, embedding, given.sample_rate)
        if gate:
            target *= gain
        present = presence >= self.config.presence.threshold
        return RuntimeSeparation(target, waveform - target, presence, present, given.sample_rate)

    def separate_file(
        self,
        path: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        gate: bool = True,
        adapt: bool = True,
        asked: Asked | None = None,
        **query: Unpack[RuntimeQuery],
    ) -> RuntimeFiles:
        """As `separate`, from file to files of 32-bit float, in constant memory whatever the length.

        Args:
            path: of the recording.
            output: beginning of the results' paths: `OUTPUT.target.wav` and `OUTPUT.residual.wav` are written, and
                appear once they are complete; the folder is made if missing.
            gate: as in `separate`, like `adapt`, `asked` and the rest.
            **query: see `separate`.

        Raises:
            InputError: if the recording, the example or the picture cannot be used.
            ModelError: if what the query needs was not exported.
            OutputError: if the folder cannot be made or written to.
            UsageError: if nothing is asked for, an embedding comes with something else, or weights do not fit.
        """
        asked, output = self.ask(asked=asked, **query), Path(output)
        with AudioFile(path) as file:
            source = Source(file.name, file.sample_rate, lambda: file.blocks(_PIECE))
            files = result_files(output.parent, output.name)
            with Stream(source, self.config, folder=output.parent) as stream:
                logit, embedding = self._propose(stream, asked, file.sample_rate)
                if adapt:
                    stream.adapt()
                with write_results(stream, file, files) as publish:
                    presence, gain = self._judge(stream, logit, embedding, file.sample_rate)
                    again = gate and gain != 1.0  # whether the gate closes is known once all of the target was heard
                    if not again:
                        publish()
                if again:
                    with write_results(stream, file, files, gain=gain) as publish:
                        publish()
        return RuntimeFiles(files, presence, presence >= self.config.presence.threshold)

    def ask(self, *, asked: Asked | None = None, **query: Unpack[RuntimeQuery]) -> Asked:
        """Make a query ready, for `separate(..., asked=...)` of as many recordings as there are.

        Args:
            asked: one that is ready already.
            **query: fields of `RuntimeQuery`.

        Raises:
            InputError: if the example or the picture cannot be used.
            ModelError: if what the query needs was not exported.
            UsageError: if nothing is asked for, an embedding or a query that is ready comes with something else, or
                weights do not fit.
        """
        if asked is None:
            return self._embed(**query)
        if any(value is not None for value in query.values()):
            raise UsageError("A query that was made ready by Runtime.ask stands alone; leave the other keywords out.")
        return asked

    def embed_text(self, text: str) -> Float32[np.ndarray, " d"]:
        """Embedding of a stored query or, if the text encoder was exported, of any words.

        Raises:
            ModelError: if it is not stored and there is no text encoder.
        """
        if text in self._queries:
            return self._queries[text]
        if "text" not in self.config.files:
            stored = ", ".join(f"'{name}'" for name in self.config.queries) or "none"
            raise ModelError(
                f"{self.folder}: no query '{text}' is stored (stored: {stored}); export it with --text '{text}', or "
                "any words with --text-encoder."
            )
        if self._text is None:
            tokenizer = checked_file(self.folder, self.config, "tokenizer").read_bytes()
            self._text = TextEncoder(tokenizer, self._graph("text"))
        return self._text.embed(text)

    def embed_audio(self, audio: Recording) -> Float32[np.ndarray, " d"]:
        """Embedding of an example.

        Raises:
            ModelError: if the audio encoder was not exported.
            InputError: if the example cannot be used.
        """
        source = _load(audio)
        return self._audio_encoder().embed(to_mono(source.waveform), source.sample_rate)

    def read_image(self, image: "str | os.PathLike[str] | Image.Image") -> Readings:
        """What a picture may show.

        Raises:
            ModelError: if the image encoder was not exported.
            InputError: if the picture cannot be read.
        """
        if self._image is None:
            trunks = [self._graph(role) for role in ("image", "image2")]
            places = self._embeddings("image_places")
            self._image = ImageEncoder(trunks, self._graph("image_head"), places, kept=self.config.reading.kept)
        return self._image.read(image)

    def _embed(
        self,
        *,
        text: str | None = None,
        audio: Recording | None = None,
        image: "str | os.PathLike[str] | Image.Image | None" = None,
        embedding: np.ndarray | None = None,
        negative: str | Sequence[str] | None = None,
        weights: Mapping[Modality, float] | None = None,
    ) -> Asked:
        if (embedding is None) == (text is None and audio is None and image is None):
            raise UsageError(
                "A query of the runtime has text, audio and image, or some of them, or an embedding in their place."
            )
        readings = None if image is None else self.read_image(image)
        if embedding is None:
            places: dict[Modality, np.ndarray] = {}
            if text is not None:
                places["text"] = self.embed_text(text)
            if audio is not None:
                places["audio"] = self.embed_audio(audio)
            if readings is not None:
                places["image"] = readings.embedding
            target = fuse(places, weights)
            if len(places) > 1:
                readings = None  # words or an example say which reading is meant
        else:
            target = np.asarray(embedding, dtype=np.float32)
            if target.shape != (self.config.query_dimension,):
                raise UsageError(
                    f"A query embedding has {self.config.query_dimension} numbers, not {list(target.shape)}."
                )
        unwanted = () if negative is None else (negative,) if isinstance(negative, str) else negative
        return Asked(np.stack([target, *(self.embed_text(words) for words in unwanted)]), readings)

    def _propose(self, stream: Stream, asked: Asked, sample_rate: int) -> tuple[float, Float32[np.ndarray, " d"]]:
        """Everything up to the mask; gives the log-odds of the target being there, and its embedding."""
        if asked.readings is None:
            return stream.propose(self._network_outputs, asked.rows), asked.rows[0]
        places = asked.readings.places
        logits, loudest = stream.hear(self._network_outputs, places)
        stretches = None
        if self.config.reading.match:
            encoder = self._audio_encoder()
            stretches = encoder.project(np.stack([encoder.features(each, sample_rate).whole for each in loudest]))
        settled = weigh(self.config.reading, asked.readings, logits, stretches)
        stream.propose(self._network_outputs, np.concatenate([settled.embedding[None], asked.rows[1:]]))
        return settled.presence, settled.embedding

    def _judge(self, stream: Stream, logit: float, query: np.ndarray, sample_rate: int) -> tuple[float, np.float32]:
        """Presence, and the gate's factor for the target, as `marssep.separate.presence` has them."""
        config = self.config.presence
        seconds = self.config.chunk_steps * self.config.spectral.step_seconds
        level = stream.levels.loudest_db(seconds=seconds, quiet=self.config.quiet)
        silent = logit == -math.inf
        heard = Heard() if silent or not config.weights.listens else self._listen(stream, sample_rate, query)
        presence = config.weights.presence(logit, heard)
        closed = presence < (config.quiet_threshold if level <= -config.quiet_db else config.threshold)
        return presence, np.float32(10.0 ** (-config.absent_attenuation_db / 20.0) if closed else 1.0)

    def _listen(self, stream: Stream, sample_rate: int, query: np.ndarray) -> Heard:
        """What the encoder hears in the loudest stretches of the target, as `marssep.separate.presence.Ear`."""
        encoder = self._audio_encoder()
        features = [encoder.features(stretch, sample_rate) for stretch in stream.loudest.found()]
        matches = encoder.project(np.stack([each.whole for each in features])) @ query
        best = int(matches.argmax())
        return weigh_patches(
            float(matches[best]),
            encoder.project(features[best].patches),
            features[best].power,
            query=query,
            rivals=self._rivals,
            loud=self.config.loud,
            kin=self.config.kin,
        )

    def _network_outputs(self, power: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, presence = self._network({"power": power, "query": query})
        return logits, presence

    def _audio_encoder(self) -> AudioEncoder:
        if self._audio is None:
            self._audio = AudioEncoder(self._graph("audio_trunk"), self._graph("audio_head"))
        return self._audio

    def _graph(self, role: str) -> Graph:
        if role not in self._graphs:
            self._graphs[role] = _graph(checked_file(self.folder, self.config, role), self._threads)
        return self._graphs[role]

    def _embeddings(self, role: str) -> Float32[np.ndarray, "k d"]:
        with np.load(checked_file(self.folder, self.config, role), allow_pickle=False) as stored:
            embeddings: np.ndarray = stored["embeddings"].astype(np.float32)
        return embeddings


def _graph(path: Path, threads: int | None) -> Graph:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("The runtime needs onnxruntime; run 'pip install marssep[runtime]'.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Between two runs the threads belong to numpy; waiting in a loop would take them away from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types are not public
        raise ModelError(f"{path}: onnxruntime cannot load the exported graph ({error}); export it again.") from None
    run: Callable[..., Any] = session.run
    return lambda inputs: run(None, inputs)


def _load(input: Recording) -> Audio:
    if isinstance(input, Audio):
        input = (input.waveform, input.sample_rate)
    if not isinstance(input, tuple):
        return read_audio(input)
    return Audio(check_waveform(input[0], name="waveform"), int(input[1]))
