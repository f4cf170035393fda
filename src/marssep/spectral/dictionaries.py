"""What the sounds of this very recording look like: dictionaries of spectra, learnt from what a mask proposes.

The network knows sounds in general and says what it thinks on a coarse grid. The recording knows its own: the same bark
or the same string comes back, with the same partials. So the magnitude that the mask lets pass, and that which it keeps
back, are each approximated by a few spectra and their activations (non-negative matrix factorisation by Lee and Seung's
updates for the Kullback-Leibler divergence, stopped early). What comes back survives that, what slipped through once
does not. With approximations a and b of the two, the mask m becomes

    m' = m^(1-w) a^w / (m^(1-w) a^w + (1 - m)^(1-w) b^w)

and 0 and 1 stay what they are. Where partials lie close together every bin counts by itself; higher up `Groups` of bins
do as well. What that is worth is in `results/adapting.json`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float32, Int64

SPECTRA = 16
"""Of either dictionary."""
UPDATES = 10
"""Of spectra and activations while learning; more approximate the mask's mistakes, too."""
ACTIVATIONS = 5
"""Updates of the activations with the spectra fixed."""
WEIGHT = 0.75
"""w: how much the dictionaries count beside the mask, on a logarithmic scale."""
GROUPED_FROM = 2000.0
"""Hz; bins are taken together from here on, two of them in this octave and twice as many in each further one."""
_SEED = 0
_LEAST = np.float32(1e-6)  # of a mean magnitude of 1


@dataclass(frozen=True, slots=True)
class Groups:
    """Neighbouring bins that are taken together.

    Attributes:
        sizes: bins of each group, from the lowest up.
    """

    sizes: Int64[np.ndarray, " g"]

    @classmethod
    def of(cls, n_bins: int, spacing: float) -> Self:
        """Of so many bins that lie `spacing` Hz apart."""
        edges = [0]
        while edges[-1] < n_bins:
            octave = np.floor(np.log2(max(edges[-1] * spacing, 1.0) / GROUPED_FROM)) + 1
            edges.append(min(n_bins, edges[-1] + 2 ** max(0, int(octave))))
        return cls(np.diff(edges))

    def mean(self, values: Float32[np.ndarray, "f t"]) -> Float32[np.ndarray, "g t"]:
        """Over the bins of each group."""
        starts = np.concatenate([[0], np.cumsum(self.sizes[:-1])])
        made: np.ndarray = np.add.reduceat(values, starts, axis=0) / self.sizes[:, None].astype(np.float32)
        return made

    def widen(self, values: Float32[np.ndarray, "g t"]) -> Float32[np.ndarray, "f t"]:
        """Every bin gets its group's value."""
        return np.repeat(values, self.sizes, axis=0)


def learn(magnitude: Float32[np.ndarray, "g k"]) -> Float32[np.ndarray, "g s"]:
    """Spectra that make up a spectrogram whose mean is about 1; each sums to one."""
    n_bins, n_columns = magnitude.shape
    start = np.random.default_rng(_SEED).random((n_bins + n_columns, SPECTRA), dtype=np.float32) + np.float32(0.1)
    spectra, activations = start[:n_bins], np.ascontiguousarray(start[n_bins:].T)
    for _ in range(UPDATES):
        ratio = magnitude / (spectra @ activations + _LEAST)
        activations *= (spectra.T @ ratio) / (spectra.sum(0)[:, None] + _LEAST)
        ratio = magnitude / (spectra @ activations + _LEAST)
        spectra *= (ratio @ activations.T) / (activations.sum(1) + _LEAST)
    made: np.ndarray = spectra / (spectra.sum(0) + _LEAST)
    return made


def approximate(
    magnitude: Float32[np.ndarray, "g k"], spectra: Float32[np.ndarray, "g s"]
) -> Float32[np.ndarray, "g k"]:
    """A spectrogram as a mix of spectra, every frame by itself."""
    start = magnitude.sum(0) / np.float32(spectra.shape[1])
    activations = np.repeat(start[None], spectra.shape[1], axis=0)
    for _ in range(ACTIVATIONS):
        activations *= spectra.T @ (magnitude / (spectra @ activations + _LEAST))
    made: np.ndarray = spectra @ activations
    return made


def compare(sides: Float32[np.ndarray, "2 g k"], spectra: Float32[np.ndarray, "2 g s"]) -> Float32[np.ndarray, "g k"]:
    """log(a / b): what two dictionaries say of a spectrogram that a mask has divided.

    Args:
        sides: magnitude of what the mask lets pass and of what it keeps back, in the units of `learn`.
        spectra: the dictionary of either side.
    """
    wanted, rest = (approximate(*each) + _LEAST for each in zip(sides, spectra, strict=True))
    made: np.ndarray = np.log(wanted / rest)
    return made


def move(mask: Float32[np.ndarray, "f t"], said: Float32[np.ndarray, "f t"]) -> Float32[np.ndarray, "f t"]:
    """The mask m' of the module's text.

    Args:
        mask: in [0, 1].
        said: what the dictionaries say of every cell, from `compare`.
    """
    with np.errstate(divide="ignore"):  # a mask of 0 has infinite odds against it, and keeps them
        against: np.ndarray = (1 - mask) / mask
    against **= np.float32(1 - WEIGHT)
    against *= np.exp(said * np.float32(-WEIGHT))
    against += 1
    return np.reciprocal(against, out=against)
