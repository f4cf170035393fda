"""BSS-eval v4 of our own: museval's SDR, SIR and SAR over the whole signal, many times faster and for whole batches.

museval (window=inf) takes a quarter of a second for one query, so it can be run on a sample of a list only. The
figures need much less: all rows of one mixture share the targets, so the two normal matrices of a target are factored
once for all the systems that are compared, and the energies are taken in the frequency domain (Parseval), so that no
projection is ever synthesised. The formulas, the 512 taps and the tiny diagonal term are museval's; the agreement is
measured in `results/metric-agreement.json` and held by tests.

Definitions, with s the target, r = mixture - s, e the estimate, P_s and P_sr the least-squares projections on the
delayed copies (0 to 511 samples) of s, and of s and r:

- SDR = |s|^2 / |e - s|^2, which for one channel is `snr_db`;
- SIR = |P_s e|^2 / |P_sr e - P_s e|^2;
- SAR = |P_sr e|^2 / |e - P_sr e|^2;
- the SDR of version 3, |P_s e|^2 / |e - P_s e|^2, which forgives any filter of the target and is no SDR of v4.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.metrics.signal import CEILING_DB, FLOOR_DB, is_silent, snr_db

N_TAPS = 512
"""Length of the distortion filters, as in BSS-eval since 2006."""

_EPS = torch.finfo(torch.float64).eps  # museval's diagonal term, absolute as there


@dataclass(frozen=True, slots=True)
class BssFigures:
    """Figures in dB, within [`FLOOR_DB`, `CEILING_DB`] and one for each row; NaN where one is not defined.

    Attributes:
        sdr_db: `snr_db` by another name.
        sir_db: how far the interference lies below the target; `FLOOR_DB` for a silent estimate, NaN if the mixture
            holds nothing but the target.
        sar_db: how far what is of neither lies below both; `FLOOR_DB` for a silent estimate.
        filtered_sdr_db: SDR of BSS-eval v3, to compare with those who report it (torchmetrics'
            `signal_distortion_ratio`, fast_bss_eval); `FLOOR_DB` for a silent estimate.
    """

    sdr_db: Tensor
    sir_db: Tensor
    sar_db: Tensor
    filtered_sdr_db: Tensor


class BssReference:
    """Targets of one mixture with their factored normal matrices: make one for a mixture, score every system with it.

    Args:
        reference: the targets `[b, n]`.
        mixture: the recording `[n]`.

    Raises:
        ValueError: if the lengths differ or there are no samples.

    Example:
        >>> noise = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
        >>> reference = BssReference(noise, noise.sum(0))
        >>> reference(noise).sir_db.tolist()
        [100.0, 100.0]
    """

    def __init__(self, reference: Float[Tensor, "b n"], mixture: Float[Tensor, " n"]) -> None:
        if reference.shape[-1] != mixture.shape[-1] or mixture.shape[-1] == 0:
            raise ValueError(f"{reference.shape[-1]} samples of target, {mixture.shape[-1]} of mixture; cut or pad.")
        self._reference, mixture = reference.double(), mixture.double()
        rest = mixture - self._reference
        self._alone = is_silent(rest)
        self._n_fft = _fast_length(mixture.shape[-1] + N_TAPS - 1)
        self._spectra = torch.fft.rfft(torch.stack([self._reference, rest], dim=1), n=self._n_fft)
        self._factor = _Factor(self._normal_matrix())

    @torch.no_grad()
    def __call__(self, estimate: Float[Tensor, "b n"]) -> BssFigures:
        """Score estimates of the targets, in their order; NaN in an estimate gives NaN.

        Raises:
            ValueError: if the shape is not that of the targets.
        """
        if estimate.shape != self._reference.shape:
            raise ValueError(f"{list(estimate.shape)} estimates for {list(self._reference.shape)} targets.")
        estimate = estimate.double()
        spectrum = torch.fft.rfft(estimate, n=self._n_fft)
        cross = torch.fft.irfft(spectrum[:, None] * self._spectra.conj(), n=self._n_fft)[..., :N_TAPS]
        target = self._filtered(self._factor.solve(cross[:, 0])[:, None])
        both = self._filtered(self._factor.solve(cross.flatten(1)).unflatten(1, (2, N_TAPS)))
        sir = _ratio_db(self._energy(target), self._energy(both - target))
        sar = _ratio_db(self._energy(both), self._energy(spectrum - both))
        filtered = _ratio_db(self._energy(target), self._energy(spectrum - target))
        silent, undefined = is_silent(estimate), is_silent(self._reference) | ~estimate.isfinite().all(-1)
        sir, sar, filtered = (torch.where(silent, FLOOR_DB, value) for value in (sir, sar, filtered))
        return BssFigures(
            snr_db(estimate, self._reference),
            torch.where(undefined | self._alone, torch.nan, sir),
            torch.where(undefined, torch.nan, sar),
            torch.where(undefined, torch.nan, filtered),
        )

    def _normal_matrix(self) -> Tensor:
        """Inner products of all delayed copies, `[b, 2 taps, 2 taps]`."""
        first, second = self._spectra.unbind(1)
        products = torch.stack([first.conj() * first, first.conj() * second, second.conj() * second], dim=1)
        lags = torch.fft.irfft(products, n=self._n_fft)
        # lags -511 ... 511 around the wrap of the transform
        lags = torch.cat([lags[..., -(N_TAPS - 1) :], lags[..., :N_TAPS]], dim=-1)
        blocks = lags.flip(-1).unfold(-1, N_TAPS, 1).flip(-2)  # entry (i, j) is lag i - j
        matrix = lags.new_empty(len(lags), 2 * N_TAPS, 2 * N_TAPS)
        matrix[:, :N_TAPS, :N_TAPS], matrix[:, N_TAPS:, N_TAPS:] = blocks[:, 0], blocks[:, 2]
        matrix[:, :N_TAPS, N_TAPS:], matrix[:, N_TAPS:, :N_TAPS] = blocks[:, 1], blocks[:, 1].mT
        matrix.diagonal(dim1=-2, dim2=-1).add_(_EPS)
        return matrix

    def _filtered(self, taps: Float[Tensor, "b s taps"]) -> Tensor:
        """Spectrum of the sum of the first s sources, each through its filter."""
        spectra = torch.fft.rfft(taps, n=self._n_fft)
        return (spectra * self._spectra[:, : taps.shape[1]]).sum(1)

    def _energy(self, spectrum: Tensor) -> Tensor:
        energy = spectrum.real.square() + spectrum.imag.square()
        inner = 2.0 * energy.sum(-1) - energy[..., 0]
        return inner - energy[..., -1] if self._n_fft % 2 == 0 else inner


def bss_eval_batched(
    estimate: Float[Tensor, "b n"], reference: Float[Tensor, "b n"], *, mixture: Float[Tensor, " n"]
) -> BssFigures:
    """BSS-eval v4 of (target, rest) against (estimate, mixture - estimate), first row, as `bss_eval_v4` gives it.

    Args:
        estimate: separated waveforms.
        reference: the targets in the same order.
        mixture: the recording; mixture - reference is the interference.

    Raises:
        ValueError: if shapes differ or there are no samples.
    """
    return BssReference(reference, mixture)(estimate)


class _Factor:
    """Cholesky factors, or LU where rounding makes a matrix of narrow-band signals indefinite.

    The leading block of a Cholesky factor is the factor of the leading block, so one serves target and both.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._lower, failed = torch.linalg.cholesky_ex(matrix)
        self._indefinite = {}
        if failed.any():
            sizes = (N_TAPS, matrix.shape[-1])
            self._indefinite = {size: torch.linalg.lu_factor(matrix[:, :size, :size]) for size in sizes}

    def solve(self, right: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        size = right.shape[-1]
        if self._indefinite:
            return torch.linalg.lu_solve(*self._indefinite[size], right[..., None])[..., 0]
        return torch.cholesky_solve(right[..., None], self._lower[:, :size, :size])[..., 0]


def _ratio_db(signal: Tensor, error: Tensor) -> Tensor:
    tiny = torch.finfo(torch.float64).tiny
    value = 10.0 * (torch.log10(signal.clamp_min(tiny)) - torch.log10(error.clamp_min(tiny)))
    return value.clamp(FLOOR_DB, CEILING_DB)


def _fast_length(length: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(length, real=True))
