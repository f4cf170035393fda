"""A recording's way through an exported model in constant memory, as `marssep.separate.streaming` has it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float32

from marssep.errors import InputError
from marssep.runtime.chunks import Listener, Network
from marssep.runtime.folder import RuntimeConfig
from marssep.runtime.levels import SecondLevels
from marssep.runtime.spectrogram import PlainSpectrogram
from marssep.spectral.adaptation import Adaptation
from marssep.spectral.directions import channels_differ
from marssep.spectral.spool import ColumnSpool
from marssep.spectral.walking import Block


@dataclass(frozen=True, slots=True)
class Source:
    """Samples that can be read more than once.

    Attributes:
        name: for messages.
        sample_rate: Hz.
        pieces: all of them from the beginning, `[c, n]` pieces of any length.
    """

    name: str
    sample_rate: int
    pieces: Callable[[], Iterable[Float32[np.ndarray, "c _"]]]


class Stream:
    """One recording: `propose` first, after `hear` if that is wanted, perhaps `adapt`, `render` as often as wanted.

    Attributes:
        length: samples per channel; known after `propose`.
        levels: of target and recording in every second, once a render has ended.
        loudest: the loudest stretches of the target's mean over the channels, once a render has ended.

    Args:
        source: the recording.
        config: of the exported model.
        folder: where masks lie that are too many for memory; None is the system's temporary folder.
    """

    def __init__(self, source: Source, config: RuntimeConfig, *, folder: Path | None = None) -> None:
        self._source, self._config = source, config
        self._spectrogram = PlainSpectrogram(config.spectral, source.sample_rate)
        self._masks = ColumnSpool(1, config.spectral.n_bands, folder=folder)
        self._folder = folder
        self._channels_differ = False
        self._adaptation: Adaptation | None = None
        self.length = 0
        self.levels = SecondLevels(source.sample_rate)
        self.loudest = self._stretches()

    def hear(
        self, network: Network, places: Float32[np.ndarray, "k d"]
    ) -> tuple[Float32[np.ndarray, " k"], list[Float32[np.ndarray, " n"]]]:
        """The network's logits of sounds being there, and the loudest stretches of the recording, one channel each.

        Args:
            network: the exported one.
            places: embeddings of the sounds.

        Raises:
            InputError: if the recording cannot be read or is empty.
        """
        listener, stretches = Listener(network, places, self._config), self._stretches()
        for block, excerpt in self._walk():
            listener.push(self._spectrogram.power(block, excerpt))  # whose masks are of no use here
            stretches.push(excerpt[:, block.kept])
        listener.finish()
        stretches.finish()
        return listener.logits, stretches.found()

    def propose(self, network: Network, query: Float32[np.ndarray, "q d"]) -> float:
        """Everything up to the mask; gives the network's logit of the sound being there.

        Args:
            network: the exported one.
            query: the target's embedding, followed by those of sounds to remove.

        Raises:
            InputError: if the recording cannot be read or is empty.
        """
        listener = Listener(network, query, self._config)
        for block, excerpt in self._walk():
            self._masks.append(listener.push(self._spectrogram.power(block, excerpt))[None])
            self._channels_differ = self._channels_differ or channels_differ(excerpt[:, block.kept])
            self.length = block.stop
        self._masks.append(listener.finish()[None])
        return listener.presence

    def adapt(self) -> None:
        """Learn from the recording itself, as `marssep.separate.streaming.Stream.adapt`.

        Raises:
            InputError: if the recording cannot be read.
            OutputError: if there is no room for what was learnt.
        """
        config, begin = self._config.spectral, 0
        self._adaptation = Adaptation(config, directions=self._channels_differ, folder=self._folder)
        for block, excerpt in self._walk():
            seen = self._spectrogram.seen(block, excerpt).swapaxes(1, 2)
            mask = self._masks.read(slice(begin, begin + seen.shape[-1]))[0]
            self._adaptation.push(seen, self._spectrogram.on_bins(mask)[None])
            begin += seen.shape[-1]
        self._adaptation.finish()

    def render(self) -> Iterator[tuple[Float32[np.ndarray, "c n"], Float32[np.ndarray, "c n"]]]:
        """Target and recording, block by block.

        Raises:
            InputError: if the recording has changed since `propose`.
        """
        self.levels, self.loudest = SecondLevels(self._source.sample_rate), self._stretches()
        length = 0
        for block, excerpt in self._spectrogram.walk(self._source.pieces()):
            mask = self._masks.read(self._spectrogram.columns(excerpt, block))[0]
            target, recording = self._spectrogram.masked(block, excerpt, mask, self._adaptation), excerpt[:, block.kept]
            self.levels.push(block.start, target, recording)
            self.loudest.push(target)
            length = block.stop
            yield target, recording
        self.loudest.finish()
        if length != self.length:
            raise InputError(
                f"{self._source.name}: changed while it was read ({self.length} samples, then {length}); wait until "
                "it is complete."
            )

    def _walk(self) -> Iterator[tuple[Block, Float32[np.ndarray, "c _"]]]:
        empty = True
        for block, excerpt in self._spectrogram.walk(self._source.pieces()):
            empty = False
            yield block, excerpt
        if empty:
            raise InputError(f"{self._source.name}: the recording is empty (0 samples); there is nothing to separate.")

    def _stretches(self) -> "Stretches":
        seconds = self._config.chunk_steps * self._config.spectral.step_seconds
        return Stretches(max(1, round(seconds * self._source.sample_rate)), most=self._config.windows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._masks.close()
        if self._adaptation is not None:
            self._adaptation.close()


@dataclass(slots=True)
class Stretches:
    """The loudest stretches of a recording that comes in pieces; they lie side by side, the last ends with it.

    Attributes:
        size: samples of a stretch.
        most: how many are kept.
    """

    size: int
    most: int
    _held: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    _new: int = 0  # samples at the end of `_held` that lie in no stretch yet
    _kept: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def push(self, piece: Float32[np.ndarray, "c _"]) -> None:
        """Take the next samples."""
        self._held = np.concatenate([self._held, piece.mean(0)])
        self._new += piece.shape[1]
        while self._new >= self.size:
            end = len(self._held) - self._new + self.size
            self._keep(self._held[end - self.size : end])
            self._new -= self.size
        # What is left may be too short for a stretch and must borrow from the one before.
        self._held = self._held[-(self.size + self._new) :]

    def finish(self) -> None:
        """Take the end."""
        if self._new:
            self._keep(self._held[-self.size :])
            self._new = 0

    def found(self) -> list[Float32[np.ndarray, " n"]]:
        """The loudest first."""
        return [stretch for _, stretch in self._kept]

    def _keep(self, stretch: np.ndarray) -> None:
        level = float(np.square(stretch).mean())
        self._kept = sorted([*self._kept, (level, stretch.copy())], key=lambda each: -each[0])[: self.most]
