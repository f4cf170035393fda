"""Load an exported model, ask for a sound, get it out of a recording: no torch anywhere."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float32

from marssep.audio import Audio, AudioFile, AudioWriter, check_waveform, read_audio, to_mono, write_audio
from marssep.errors import ModelError, OutputError, UsageError
from marssep.runtime.encoders import AudioEncoder, Graph, TextEncoder
from marssep.runtime.folder import RuntimeConfig, checked_file, read_config
from marssep.runtime.hearing import Heard, weigh_patches
from marssep.runtime.streaming import Source, Stream

_PIECE = 1 << 16  # samples read at once
_OPEN = np.float32(1.0)

Recording = str | os.PathLike[str] | tuple[np.ndarray, int] | Audio
"""A file, or a waveform `[n]` or `[c, n]` with its sample rate in hertz."""


@dataclass(frozen=True, slots=True)
class RuntimeSeparation:
    """A sound that was asked for and the rest of the recording.

    Attributes:
        target: the sound, at the input's rate, channels and length.
        residual: everything else; target + residual is the input.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
        sample_rate: Hz.
    """

    target: Float32[np.ndarray, "c n"]
    residual: Float32[np.ndarray, "c n"]
    presence: float
    present: bool
    sample_rate: int

    def save(self, folder: str | os.PathLike[str], *, name: str) -> dict[str, Path]:
        """Write `NAME.target.wav` and `NAME.residual.wav` as 32-bit float.

        Args:
            folder: made if missing.
            name: beginning of the file names.

        Returns:
            `target` and `residual`, with their paths.

        Raises:
            OutputError: if the folder cannot be made or written to.
        """
        files = _files(Path(folder), name)
        for part, path in files.items():
            write_audio(path, getattr(self, part), sample_rate=self.sample_rate)
        return files


@dataclass(frozen=True, slots=True)
class RuntimeFiles:
    """What was written for a recording.

    Attributes:
        files: `target` and `residual`, with their paths.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
    """

    files: dict[str, Path]
    presence: float
    present: bool


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
        text: str | None = None,
        audio: Recording | None = None,
        embedding: Float32[np.ndarray, " d"] | None = None,
        negative: str | Sequence[str] | None = None,
        gate: bool = True,
    ) -> RuntimeSeparation:
        """Get a sound out of a recording, as `marssep.Separator.separate` does.

        Args:
            input: the recording; any rate, any number of channels, any length from one sample.
            text: a stored query, or any words if the text encoder was exported.
            audio: an example of the sound, if the audio encoder was exported.
            embedding: a query embedding from elsewhere.
            negative: a stored query, or words, for a sound to keep out of the target; or several.
            gate: turn the target down when the sound seems to be absent.

        Raises:
            InputError: if the recording or the example cannot be used.
            ModelError: if what the query needs was not exported.
            UsageError: unless exactly one of text, audio and embedding is given.
        """
        query = self._asked(text, audio, embedding, negative)
        given = _load(input)
        waveform = given.waveform
        with Stream(Source("recording", given.sample_rate, lambda: [waveform]), self.config) as stream:
            logit = stream.propose(self._network_outputs, query)
            target = np.concatenate([target for target, _ in stream.render()], axis=1)
            presence, gain = self._judge(stream, logit, query[0], given.sample_rate)
        if gate:
            target *= gain
        present = presence >= self.config.presence.threshold
        return RuntimeSeparation(target, waveform - target, presence, present, given.sample_rate)

    def separate_file(
        self,
        path: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        text: str | None = None,
        audio: Recording | None = None,
        embedding: Float32[np.ndarray, " d"] | None = None,
        negative: str | Sequence[str] | None = None,
        gate: bool = True,
    ) -> RuntimeFiles:
        """As `separate`, from file to files of 32-bit float, in constant memory whatever the length.

        Args:
            path: of the recording.
            output: beginning of the results' paths: `OUTPUT.target.wav` and `OUTPUT.residual.wav` are written, and
                appear once they are complete; the folder is made if missing.
            text: as in `separate`, like the rest.
            audio: see `separate`.
            embedding: see `separate`.
            negative: see `separate`.
            gate: see `separate`.

        Raises:
            InputError: if the recording or the example cannot be used.
            ModelError: if what the query needs was not exported.
            OutputError: if the folder cannot be made or written to.
            UsageError: unless exactly one of text, audio and embedding is given.
        """
        query, output = self._asked(text, audio, embedding, negative), Path(output)
        with AudioFile(path) as file:
            source = Source(file.name, file.sample_rate, lambda: file.blocks(_PIECE))
            files = _files(output.parent, output.name)
            with Stream(source, self.config, folder=output.parent) as stream:
                logit = stream.propose(self._network_outputs, query)
                with _write(stream, file, files) as publish:
                    presence, gain = self._judge(stream, logit, query[0], file.sample_rate)
                    again = gate and gain != 1.0  # whether the gate closes is known once all of the target was heard
                    if not again:
                        publish()
                if again:
                    with _write(stream, file, files, gain=gain) as publish:
                        publish()
        return RuntimeFiles(files, presence, presence >= self.config.presence.threshold)

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

    def _asked(
        self,
        text: str | None,
        audio: Recording | None,
        embedding: np.ndarray | None,
        negative: str | Sequence[str] | None,
    ) -> Float32[np.ndarray, "q d"]:
        unwanted = () if negative is None else (negative,) if isinstance(negative, str) else negative
        return np.stack([self._query(text, audio, embedding), *(self.embed_text(words) for words in unwanted)])

    def _query(
        self, text: str | None, audio: Recording | None, embedding: np.ndarray | None
    ) -> Float32[np.ndarray, " d"]:
        if sum(given is not None for given in (text, audio, embedding)) != 1:
            raise UsageError("A query of the runtime is one of text, audio and embedding; give exactly one.")
        if text is not None:
            return self.embed_text(text)
        if audio is not None:
            return self.embed_audio(audio)
        made = np.asarray(embedding, dtype=np.float32)
        if made.shape != (self.config.query_dimension,):
            raise UsageError(f"A query embedding has {self.config.query_dimension} numbers, not {list(made.shape)}.")
        return made

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


def _files(folder: Path, name: str) -> dict[str, Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this output folder ({error.strerror}); choose another.") from None
    return {part: folder / f"{name}.{part}.wav" for part in ("target", "residual")}


@contextlib.contextmanager
def _write(
    stream: Stream, file: AudioFile, files: dict[str, Path], *, gain: np.float32 = _OPEN
) -> Iterator[Callable[[], None]]:
    """Render target, times `gain`, and residual; gives what publishes both, without which they are taken back."""
    with contextlib.ExitStack() as stack:
        shape = {"sample_rate": file.sample_rate, "channels": file.channels, "frames": stream.length}
        writers = [stack.enter_context(AudioWriter(path, **shape)) for path in files.values()]
        for target, recording in stream.render():
            made = gain * target
            for writer, part in zip(writers, (made, recording - made), strict=True):
                writer.write(part)

        def publish() -> None:
            for writer in writers:
                writer.finish()
            for writer in writers:
                writer.publish()

        yield publish


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
