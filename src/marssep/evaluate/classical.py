"""Classical floors: what separation without learning and without a query makes of the same mixtures.

Both split the mixture blindly by its spectrogram, with the masks applied to the mixture's own STFT and phase:

- NMF: as many spectral shapes as there are targets, each with its course in time (`librosa.decompose.decompose` with
  scikit-learn's NMF), and Wiener-like masks of their powers;
- HPSS: sustained against struck sounds by median filters (`librosa.decompose.hpss`), which knows two kinds only.

Neither hears a query, so somebody has to say which output answers which target. Here the **targets themselves** say it
(the assignment with the highest sum of SI-SDR): an oracle that no user has and that flatters both. A model that is
asked by text and does not beat them has learned nothing.
"""

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from marssep.errors import UsageError
from marssep.metrics import is_silent, si_sdr_db
from marssep.spectral import Spectrogram

_NMF_STEPS = 200
_HPSS_KERNEL = (17, 17)  # frames (0.27 s) and bins (0.27 kHz) of the median filters
_SEED = 0


def nmf(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Non-negative matrix factorisation into as many parts as targets, which choose among them.

    Raises:
        UsageError: if librosa is not installed.
    """
    librosa = load_librosa()
    from sklearn.decomposition import NMF

    if bool(is_silent(mixture)):
        return torch.zeros_like(sources)
    spectrum = spectral.stft(mixture, sample_rate)
    # tol=0 runs every step: the cost is fixed, and no warning says that it has not converged
    solver = NMF(len(sources), init="nndsvd", tol=0.0, max_iter=_NMF_STEPS, random_state=_SEED)
    shapes, courses = librosa.decompose.decompose(spectrum.abs().numpy(), transformer=solver)
    parts = torch.from_numpy(shapes.T[:, :, None] * courses[:, None, :]).to(spectrum.real.dtype)
    power = parts.square()
    masks = power / power.sum(0).clamp_min(torch.finfo(power.dtype).tiny)
    return _assigned(_resynthesise(masks, spectrum, spectral, mixture, sample_rate), sources)


def hpss(
    mixture: Float[Tensor, " n"], sources: Float[Tensor, "s n"], spectral: Spectrogram, sample_rate: int
) -> Float[Tensor, "s n"]:
    """Harmonic and percussive part; each target takes the one that suits the whole assignment best.

    With more than two targets a part serves several of them.

    Raises:
        UsageError: if librosa is not installed.
    """
    librosa = load_librosa()
    if bool(is_silent(mixture)):
        return torch.zeros_like(sources)
    spectrum = spectral.stft(mixture, sample_rate)
    masks = librosa.decompose.hpss(spectrum.abs().numpy(), kernel_size=_HPSS_KERNEL, power=2.0, mask=True)
    stacked = torch.stack([torch.from_numpy(mask) for mask in masks]).to(spectrum.real.dtype)
    return _assigned(_resynthesise(stacked, spectrum, spectral, mixture, sample_rate), sources)


def best_assignment(score: Float[Tensor, "parts s"]) -> list[int]:
    """The part for each target with the highest sum of scores; parts serve as evenly as their number allows.

    Example:
        >>> best_assignment(torch.tensor([[9.0, 8.0], [7.0, 0.0]]))
        [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    n_parts, n_targets = score.shape
    repeated = score.repeat(-(-n_targets // n_parts), 1)
    rows, columns = linear_sum_assignment(repeated.nan_to_num(0.0).numpy(), maximize=True)
    chosen = dict(zip(columns.tolist(), (rows % n_parts).tolist(), strict=True))
    return [chosen[target] for target in range(n_targets)]


def load_librosa() -> Any:
    """The library of both separators.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import librosa
    except ImportError:
        raise UsageError(
            "The classical baselines need librosa, which is not installed; install it with: "
            "pip install 'marssep[evaluate]'."
        ) from None
    return librosa


def _resynthesise(
    masks: Float[Tensor, "parts f t"],
    spectrum: Complex[Tensor, "f t"],
    spectral: Spectrogram,
    mixture: Float[Tensor, " n"],
    sample_rate: int,
) -> Float[Tensor, "parts n"]:
    return spectral.istft(masks * spectrum, sample_rate, mixture.shape[-1])


def _assigned(parts: Float[Tensor, "parts n"], sources: Float[Tensor, "s n"]) -> Float[Tensor, "s n"]:
    return parts[best_assignment(si_sdr_db(parts[:, None], sources[None]))]
