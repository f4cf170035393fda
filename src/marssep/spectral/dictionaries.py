"""What the sounds of this very recording look like: dictionaries of spectra, learnt from what a mask proposes.

The network knows sounds in general and says what it thinks on a coarse grid. The recording knows its own: the same bark
or the same string comes back, with the same partials. So the magnitude that the mask lets pass, and that which it keeps
back, are each approximated by a few spectra and their activations (non-negative matrix factorisation by Lee and Seung's
updates for the Kullback-Leibler divergence, stopped early), at the full resolution of the spectrogram. What comes back
survives that, what slipped through once does not. With approximations a and b of the two, the mask m becomes

    m' = m^(1-w) a^w / (m^(1-w) a^w + (1 - m)^(1-w) b^w)

and 0 and 1 stay what they are. What that is worth is in `results/adapting.json`.
"""

import numpy as np
from jaxtyping import Float32

SPECTRA = 16
"""Of either dictionary."""
UPDATES = 10
"""Of spectra and activations while learning; more approximate the mask's mistakes, too."""
ACTIVATIONS = 5
"""Updates of the activations with the spectra fixed."""
WEIGHT = 0.75
"""w: how much the dictionaries count beside the mask, on a logarithmic scale."""
_SEED = 0
_LEAST = np.float32(1e-6)  # of a mean magnitude of 1


def learn(magnitude: Float32[np.ndarray, "f k"]) -> Float32[np.ndarray, "f s"]:
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
    magnitude: Float32[np.ndarray, "f t"], spectra: Float32[np.ndarray, "f s"]
) -> Float32[np.ndarray, "f t"]:
    """A spectrogram as a mix of spectra, every frame by itself."""
    start = magnitude.sum(0) / np.float32(spectra.shape[1])
    activations = np.repeat(start[None], spectra.shape[1], axis=0)
    for _ in range(ACTIVATIONS):
        activations *= spectra.T @ (magnitude / (spectra @ activations + _LEAST))
    made: np.ndarray = spectra @ activations
    return made


def refine(
    mask: Float32[np.ndarray, "f t"],
    magnitude: Float32[np.ndarray, "f t"],
    wanted: Float32[np.ndarray, "f s"],
    rest: Float32[np.ndarray, "f s"],
) -> Float32[np.ndarray, "f t"]:
    """The mask, moved by what either dictionary makes of its side.

    Args:
        mask: in [0, 1].
        magnitude: of the mixture, in the units that the dictionaries were learnt in.
        wanted: spectra of what the mask lets pass.
        rest: spectra of what it keeps back.
    """
    one, other = _side(mask, magnitude, wanted), _side(1 - mask, magnitude, rest)
    other += one
    one /= other
    return one


def _side(
    share: Float32[np.ndarray, "f t"], magnitude: Float32[np.ndarray, "f t"], spectra: Float32[np.ndarray, "f s"]
) -> Float32[np.ndarray, "f t"]:
    made: np.ndarray = approximate(magnitude * share, spectra) + _LEAST
    made **= np.float32(WEIGHT)
    made *= share ** np.float32(1 - WEIGHT)
    return made
