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
        (dictionaries, ("SPECTRA", "UPDATES", "ACTIVATIONS", "WEIGHT")),
        (directions, ("SHARPNESS", "SHRINKAGE", "AGREEMENT", "AGREED", "FLOOR", "MOST_CHANNELS")),
    )
    made = {name.lower(): getattr(module, name) for module, names in named for name in names}
    return made | {"segment_seconds": SEGMENT_SECONDS, "fade": FADE}


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What one segment says of one sound."""

    wanted: Float32[np.ndarray, "f s"]
    rest: Float32[np.ndarray, "f s"]
    level: np.float32
    directions: DirectionFilter | None


class Adaptation:
    """What a recording says of some sounds and of what is left without each; first `push` all of it, then `apply`.

    Segments are counted from the beginning of the recording and every frame is worked on by itself, so it does not
    matter in which pieces the recording comes.

    Letters: q sound, c channel, f STFT bin, k grid column, t STFT frame.

    Args:
        settings: of the spectrogram.
        directions: whether to measure them; see `directions.channels_differ`.
        folder: where lies what is too much for memory; None is the system's temporary folder.
    """

    def __init__(self, settings: SpectralSettings, *, directions: bool, folder: Path | None = None) -> None:
        self._frames_per_step, self._folder, self._directions = settings.frames_per_step, folder, directions
        self._size = max(1, round(SEGMENT_SECONDS / settings.step_seconds))  # columns of a segment
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._filled = 0
        self._spools: list[ColumnSpool] = []  # of dictionaries and levels, and of covariances
        self._shape = (0, 0)
        self._learnt: dict[tuple[int, int], _Learnt] = {}

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
        with _one_thread():
            return self._apply(spectrum, np.clip(mask, 0.0, 1.0), sound, first_frame)

    def _apply(self, spectrum: np.ndarray, mask: np.ndarray, sound: int, first_frame: int) -> np.ndarray:
        columns = (first_frame + np.arange(spectrum.shape[-1])) / self._frames_per_step
        # In segments, counted from the middle of the first; between two middles one fades into the other.
        at = np.clip(columns / self._size - 0.5, 0.0, self._spools[0].n_steps - 1.0)
        made = np.zeros(spectrum.shape, dtype=np.complex64)
        for segment in range(int(at[0]), int(np.ceil(at[-1])) + 1):
            share = np.clip((0.5 - np.abs(at - segment)) / FADE + 0.5, 0.0, 1.0).astype(np.float32)
            inside = np.flatnonzero(share)
            if len(inside):
                part = slice(inside[0], inside[-1] + 1)
                adapted = _adapt(spectrum[..., part], mask[:, part], self._recall(sound, segment))
                made[..., part] += adapted * share[part]
        return made

    def close(self) -> None:
        """Give memory and disk back."""
        for spool in self._spools:
            spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _learn(self) -> None:
        spectrum, masks = (np.concatenate(parts, axis=-1) for parts in zip(*self._held, strict=True))
        self._held, self._filled = [], 0
        masks = np.clip(masks, 0.0, 1.0)
        magnitude = _magnitude(spectrum)
        level = magnitude.mean(dtype=np.float64).astype(np.float32)
        loud = magnitude / level if level > 0 and np.isfinite(level) else np.zeros_like(magnitude)
        bins_first = np.ascontiguousarray(spectrum.transpose(1, 0, 2))
        spectra, covariances = [], []
        for mask in masks:
            wanted, rest = dictionaries.learn(loud * mask), dictionaries.learn(loud * (1 - mask))
            spectra.append(np.concatenate([wanted.ravel(), rest.ravel(), level[None]]))
            if self._directions:
                refined = dictionaries.refine(mask, loud, wanted, rest)
                both = [covariance(bins_first, each) for each in (refined, 1 - refined)]
                covariances.append(np.stack(both).view(np.float32).ravel())
        self._shape = spectrum.shape[:2]
        for number, rows in enumerate((spectra, covariances) if self._directions else (spectra,)):
            if number == len(self._spools):
                self._spools.append(ColumnSpool(len(masks), len(rows[0]), folder=self._folder))
            self._spools[number].append(np.stack(rows)[..., None])

    def _recall(self, sound: int, segment: int) -> _Learnt:
        if (sound, segment) not in self._learnt:
            # Parts move forward and overlap: what lies before the last segment is not asked for again soon.
            self._learnt = {key: each for key, each in self._learnt.items() if key[1] >= segment - 1}
            channels, n_bins = self._shape
            stored = self._spools[0].read(slice(segment, segment + 1))[sound, :, 0]
            wanted, rest = stored[:-1].reshape(2, n_bins, -1)
            filtering = None
            if self._directions:
                first = max(0, segment - 1)
                sums = self._spools[1].read(slice(first, segment + 2))[sound].astype(np.float64)
                weights = np.where(np.arange(first, first + sums.shape[-1]) == segment, 1.0, 0.5)
                both = (sums @ weights).view(np.complex128).reshape(2, n_bins, channels, channels)
                filtering = DirectionFilter.of(*both)
            self._learnt[sound, segment] = _Learnt(wanted, rest, stored[-1], filtering)
        return self._learnt[sound, segment]


def _one_thread() -> AbstractContextManager[object]:
    """Products of matrices as small as these gain nothing from threads, which take the processors from the network."""
    return _pools().limit(limits=1, user_api="blas")


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def _magnitude(spectrum: Complex64[np.ndarray, "c f t"]) -> Float32[np.ndarray, "f t"]:
    made: np.ndarray = np.abs(spectrum).mean(0)
    return made


def _adapt(
    spectrum: Complex64[np.ndarray, "c f t"], mask: Float32[np.ndarray, "f t"], learnt: _Learnt
) -> Complex64[np.ndarray, "c f t"]:
    if learnt.level > 0 and np.isfinite(learnt.level):
        mask = dictionaries.refine(mask, _magnitude(spectrum) / learnt.level, learnt.wanted, learnt.rest)
    if learnt.directions is None:
        return spectrum * mask
    bins_first = np.ascontiguousarray(spectrum.transpose(1, 0, 2))
    return learnt.directions.apply(bins_first, mask).transpose(1, 0, 2)
