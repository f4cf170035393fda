"""A mask adapted to the recording that it is for: to what its sounds look like, and to where they come from.

Two things are learnt from the recording under its masks, segment by segment: `dictionaries` of spectra, which refine
the mask, and, where channels differ, `directions`, by which the refined mask steers a filter between channels. No
network and no training is involved. In numpy alone, for every engine; masks of 0 and 1 stay what they are, and a target
and what is left add up to the recording as ever.
"""

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Complex64, Float32
from threadpoolctl import ThreadpoolController

from marssep.spectral import dictionaries, directions
from marssep.spectral.dictionaries import Groups, compare, learn, move
from marssep.spectral.directions import DirectionFilter, covariance
from marssep.spectral.settings import SpectralSettings
from marssep.spectral.spool import ColumnSpool

SEGMENT_SECONDS = 8.0
"""Dictionaries are learnt from as long, and covariances also, with half the weight, from the segments beside it."""
FADE = 0.25
"""Share of a segment in which the next one takes over."""


def recipe() -> dict[str, float]:
    """The constants that decide what comes out, for checksums and records."""
    named = (
        (dictionaries, ("SPECTRA", "UPDATES", "ACTIVATIONS", "WEIGHT", "GROUPED_FROM")),
        (directions, ("SHARPNESS", "SHRINKAGE", "AGREEMENT", "AGREED", "FLOOR", "MOST_CHANNELS")),
    )
    made = {name.lower(): getattr(module, name) for module, names in named for name in names}
    return made | {"segment_seconds": SEGMENT_SECONDS, "fade": FADE}


@dataclass(frozen=True, slots=True)
class _Segment:
    """What one segment says of every sound.

    Attributes:
        sides: magnitudes that the mask lets pass and keeps back.
        spectra: the dictionary of either side.
        said: of its columns, by its own dictionaries and, where they fade, by its neighbours'.
    """

    sides: Float32[np.ndarray, "q 2 g k"]
    spectra: Float32[np.ndarray, "q 2 g s"]
    said: Float32[np.ndarray, "q g k"]


class Adaptation:
    """What a recording says of some sounds and of what is left without each; first `push` all of it, then `apply`.

    Segments are counted from the beginning of the recording and every column is worked on by itself, so it does not
    matter in which pieces the recording comes.

    Letters: q sound, c channel, f STFT bin, g group of bins, k grid column, t STFT frame.

    Args:
        settings: of the spectrogram.
        directions: whether to measure them; see `directions.channels_differ`.
        folder: where lies what is too much for memory; None is the system's temporary folder.
    """

    def __init__(self, settings: SpectralSettings, *, directions: bool, folder: Path | None = None) -> None:
        self._settings, self._folder, self._directions = settings, folder, directions
        self._size = max(1, round(SEGMENT_SECONDS / settings.step_seconds))  # columns of a segment
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._filled = 0
        self._fresh: _Segment | None = None  # the last one, whose end the next may still fade into
        self._said: ColumnSpool | None = None
        self._covariances: ColumnSpool | None = None  # a column is a segment
        self._shape = (0, 0)
        self._groups = Groups.of(0, 1.0)
        self._read: tuple[slice, np.ndarray] | None = None
        self._filters: dict[tuple[int, int], DirectionFilter] = {}

    def push(self, spectrum: Complex64[np.ndarray, "c f k"], masks: Float32[np.ndarray, "q f k"]) -> None:
        """Take the next columns of the recording: every `frames_per_step`-th frame, and the masks there.

        Raises:
            OutputError: if there is no room on the disk.
        """
        begin = 0
        while begin < spectrum.shape[-1]:
            end = min(spectrum.shape[-1], begin + self._size - self._filled)
            self._held.append((spectrum[..., begin:end], masks[..., begin:end]))
            self._filled += end - begin
            begin = end
            if self._filled == self._size:
                with _one_thread():
                    self._learn()

    def finish(self) -> None:
        """Take the end.

        Raises:
            OutputError: if there is no room on the disk.
        """
        if self._filled:
            with _one_thread():
                self._learn()
        if self._fresh is not None:
            self._keep(self._fresh.said)
            self._fresh = None

    def apply(
        self,
        spectrum: Complex64[np.ndarray, "c f t"],
        mask: Float32[np.ndarray, "f t"],
        *,
        sound: int = 0,
        first_frame: int = 0,
    ) -> Complex64[np.ndarray, "c f t"]:
        """A sound's spectrogram, from that of some part of the recording.

        Args:
            spectrum: of the part, all frames.
            mask: of the sound there.
            sound: number of the mask among those that were pushed.
            first_frame: where in the recording the part begins.
        """
        frames = first_frame + np.arange(spectrum.shape[-1])
        refined = move(np.clip(mask, 0.0, 1.0), self._groups.widen(self._recall(sound, frames)))
        if self._covariances is None:
            return spectrum * refined
        with _one_thread():
            return self._steer(spectrum, refined, sound, frames, self._covariances)

    def close(self) -> None:
        """Give memory and disk back."""
        for spool in (self._said, self._covariances):
            if spool is not None:
                spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _learn(self) -> None:
        spectrum, masks = (np.concatenate(parts, axis=-1) for parts in zip(*self._held, strict=True))
        self._held, self._filled = [], 0
        masks = np.clip(masks, 0.0, 1.0)
        if spectrum.shape[:2] != self._shape:
            self._shape = spectrum.shape[:2]
            self._groups = Groups.of(self._shape[1], 1.0 / self._settings.window_seconds)
        magnitude: np.ndarray = np.abs(spectrum).mean(0)
        level = magnitude.mean(dtype=np.float64).astype(np.float32)
        loud = magnitude / level if level > 0 and np.isfinite(level) else np.zeros_like(magnitude)
        wanted = np.stack([self._groups.mean(loud * mask) for mask in masks])
        sides = np.stack([wanted, (self._groups.mean(loud) - wanted).clip(0.0)], axis=1)
        spectra = np.array([[learn(side) for side in both] for both in sides])
        said = np.stack([compare(*each) for each in zip(sides, spectra, strict=True)])
        if self._directions:
            refined = [move(mask, self._groups.widen(each)) for mask, each in zip(masks, said, strict=True)]
            self._measure(np.ascontiguousarray(spectrum.transpose(1, 0, 2)), refined)
        fresh = _Segment(sides, spectra, said)
        if self._fresh is not None:
            place = np.arange(self._size) / self._size
            _fade(self._fresh, fresh, np.where(place >= 0.5, _own_share(place), 1.0))
            _fade(fresh, self._fresh, np.where(place < 0.5, _own_share(place), 1.0)[: said.shape[-1]])
            self._keep(self._fresh.said)
        self._fresh = fresh

    def _measure(self, bins_first: np.ndarray, masks: list[np.ndarray]) -> None:
        rows = [
            np.stack([covariance(bins_first, each) for each in (mask, 1 - mask)]).view(np.float32).ravel()
            for mask in masks
        ]
        if self._covariances is None:
            self._covariances = ColumnSpool(len(rows), len(rows[0]), folder=self._folder)
        self._covariances.append(np.stack(rows)[..., None])

    def _keep(self, said: Float32[np.ndarray, "q g k"]) -> None:
        if self._said is None:
            self._said = ColumnSpool(*said.shape[:2], folder=self._folder)
        self._said.append(said)

    def _recall(self, sound: int, frames: np.ndarray) -> Float32[np.ndarray, "g t"]:
        """What the dictionaries say of frames: linear between columns, and the last one holds until the end."""
        assert self._said is not None
        columns, past = np.divmod(frames, self._settings.frames_per_step)
        wanted = slice(int(columns[0]), int(columns[-1]) + 2)
        if self._read is None or self._read[0] != wanted:  # all sounds of a part are asked for one after another
            self._read = (wanted, self._said.read(wanted))
        said = self._read[1][sound]
        here = columns - columns[0]
        following = np.minimum(here + 1, said.shape[-1] - 1)
        share = (past / self._settings.frames_per_step).astype(np.float32)
        made: np.ndarray = said[:, here] * (1 - share) + said[:, following] * share
        return made

    def _steer(
        self, spectrum: np.ndarray, refined: np.ndarray, sound: int, frames: np.ndarray, kept: ColumnSpool
    ) -> np.ndarray:
        # In segments, counted from the middle of the first; between two middles one fades into the other.
        at = np.clip(frames / self._settings.frames_per_step / self._size - 0.5, 0.0, kept.n_steps - 1.0)
        bins_first = np.ascontiguousarray(spectrum.transpose(1, 0, 2))
        made = np.zeros(bins_first.shape, dtype=np.complex64)
        for segment in range(int(at[0]), int(np.ceil(at[-1])) + 1):
            share = np.clip(_own_share(0.5 + at - segment), 0.0, 1.0).astype(np.float32)
            inside = np.flatnonzero(share)
            if len(inside):
                part = slice(inside[0], inside[-1] + 1)
                steered = self._filter(sound, segment, kept).apply(bins_first[..., part], refined[:, part])
                made[..., part] += steered * share[part]
        return made.transpose(1, 0, 2)

    def _filter(self, sound: int, segment: int, kept: ColumnSpool) -> DirectionFilter:
        if (sound, segment) not in self._filters:
            # Parts move forward and overlap: what lies before the last segment is not asked for again soon.
            self._filters = {key: each for key, each in self._filters.items() if key[1] >= segment - 1}
            channels, n_bins = self._shape
            first = max(0, segment - 1)
            sums = kept.read(slice(first, segment + 2))[sound].astype(np.float64)
            weights = np.where(np.arange(first, first + sums.shape[-1]) == segment, 1.0, 0.5)
            both = (sums @ weights).view(np.complex128).reshape(2, n_bins, channels, channels)
            self._filters[sound, segment] = DirectionFilter.of(*both)
        return self._filters[sound, segment]


def _own_share(place: np.ndarray) -> np.ndarray:
    """Of a segment beside its neighbour, by where in the segment: 0 its beginning, 1 its end."""
    made: np.ndarray = np.minimum(1.0, (0.5 - np.abs(place - 0.5)) / FADE + 0.5)
    return made


def _fade(segment: _Segment, neighbour: _Segment, share: np.ndarray) -> None:
    """Let the neighbour's dictionaries have their part in what is said of a segment's columns.

    Args:
        segment: whose columns.
        neighbour: whose dictionaries.
        share: of the segment's own, for each column.
    """
    columns = np.flatnonzero(share < 1.0)
    weight = share[columns].astype(np.float32)
    for own, sides, spectra in zip(segment.said, segment.sides, neighbour.spectra, strict=True):
        own[:, columns] = weight * own[:, columns] + (1 - weight) * compare(sides[..., columns], spectra)


def _one_thread() -> AbstractContextManager[object]:
    """Products of matrices as small as these gain nothing from threads, which take the processors from the network."""
    return _pools().limit(limits=1, user_api="blas")


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
