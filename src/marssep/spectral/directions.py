"""What several channels know beyond a mask: where sounds come from.

A mask treats all channels alike. Where they differ, though, because sounds were panned or because microphones stand
apart, the sound that was asked for and the rest of the recording differ in their covariance between the channels, and
the mask is good enough to measure both: R of what it lets pass and R' of what it keeps back, per bin and over some
seconds. The multichannel Wiener filter (Duong, Vincent and Gribonval 2010) of a cell with mask m is then

    W = m R (m R + (1 - m) R')^-1

which is m itself where the covariances are equal, so that nothing is lost where direction says nothing. With A from
R' = A A^H and R = A D A^H it is A diag(m d / (m d + 1 - m)) A^-1: the mask, its odds moved by d, in directions of its
own. Target and rest still add up to the recording. `benchmarks/adapting.py` has what that is worth.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Complex64, Complex128, Float32

SHARPNESS = 2.0
"""Cells count by this power of the mask: what is certainly one or the other says where it comes from."""
SHRINKAGE = 0.1
"""Weight of what all bins have in common beside a bin's own covariance, whatever they are."""
AGREEMENT = 0.8
"""Share of their power that bins must have in common to be taken for one direction that holds at every frequency."""
AGREED = 8.0
"""Weight of what all bins have in common, on top, where they agree altogether: a sound that was panned."""
FLOOR = 0.01
"""Share of sound from everywhere: bounds how far one direction is trusted."""
MOST_CHANNELS = 16
"""Recordings with more get one mask for all channels: the work grows with the third power."""


def channels_differ(waveform: Float32[np.ndarray, "c n"]) -> bool:
    """Whether a recording, or a piece of it, has anything to say of directions: several channels, and not all equal."""
    return 1 < len(waveform) <= MOST_CHANNELS and bool((waveform != waveform[:1]).any())


def covariance(
    spectrum: Complex64[np.ndarray, "f c k"], mask: Float32[np.ndarray, "f k"]
) -> Complex64[np.ndarray, "f c c"]:
    """Sum over cells of how the channels go together in what a mask lets pass."""
    weighted = spectrum * (mask ** np.float32(SHARPNESS / 2.0))[:, None]
    made: np.ndarray = weighted @ weighted.conj().swapaxes(-1, -2)
    return made


@dataclass(frozen=True, slots=True)
class DirectionFilter:
    """The filter of one sound: into directions of its own, their odds, and back.

    Attributes:
        into: A^-1 of every bin.
        back: A.
        odds: d of every direction.
    """

    into: Complex64[np.ndarray, "f c c"]
    back: Complex64[np.ndarray, "f c c"]
    odds: Float32[np.ndarray, "f c 1"]

    @classmethod
    def of(cls, wanted: Complex128[np.ndarray, "f c c"], rest: Complex128[np.ndarray, "f c c"]) -> Self:
        """From sums of `covariance` over the sound and over the rest, by their generalised eigenvectors."""
        wanted, rest = _estimate(wanted), _estimate(rest)
        root = np.linalg.cholesky(rest)
        inverse = np.linalg.inv(root)
        odds, turn = np.linalg.eigh(inverse @ wanted @ inverse.conj().swapaxes(-1, -2))
        return cls(
            into=(turn.conj().swapaxes(-1, -2) @ inverse).astype(np.complex64),
            back=(root @ turn).astype(np.complex64),
            odds=odds.astype(np.float32)[..., None],  # both covariances have a floor, so none is 0
        )

    def apply(
        self, spectrum: Complex64[np.ndarray, "f c t"], mask: Float32[np.ndarray, "f t"]
    ) -> Complex64[np.ndarray, "f c t"]:
        """W x of every cell."""
        directions = self.into @ spectrum
        passed = self.odds * mask[:, None]
        passed /= passed + (1 - mask[:, None])
        directions *= passed
        made: np.ndarray = self.back @ directions
        return made


def _estimate(summed: Complex128[np.ndarray, "f c c"]) -> Complex128[np.ndarray, "f c c"]:
    """Covariances per bin whose level says nothing, from sums over cells.

    A sound that was panned comes from one side at every frequency, so a bin does well to listen to the others; what
    microphones hear of a room differs from bin to bin. How much bins have in common says which it is.
    """
    if not np.isfinite(summed).all():  # of samples beyond what squares can hold
        summed = np.zeros_like(summed)
    alone = _unit(summed)
    # By magnitude rather than power, or a few low bins would speak for all.
    weight = np.sqrt(np.trace(summed, axis1=-2, axis2=-1).real.clip(0.0))
    weight /= max(weight.sum(), np.finfo(float).tiny)
    common = np.tensordot(weight, alone, axes=1)
    own = float(weight @ np.square(np.abs(alone)).sum((-2, -1)))
    agreement = float(np.square(np.abs(common)).sum()) / own if own > 0 else 0.0
    sure = max(0.0, (agreement - AGREEMENT) / (1.0 - AGREEMENT))
    shared = (SHRINKAGE + AGREED * sure**2) * _unit(common[None])
    return _unit(alone + shared + FLOOR * np.eye(summed.shape[-1]))


def _unit(matrix: Complex128[np.ndarray, "f c c"]) -> Complex128[np.ndarray, "f c c"]:
    """With a mean power of one over the channels; zeros stay."""
    level = np.trace(matrix, axis1=-2, axis2=-1).real[:, None, None] / matrix.shape[-1]
    made: np.ndarray = np.divide(matrix, level, out=np.zeros_like(matrix), where=level > 0)
    return made
