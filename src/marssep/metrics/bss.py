"""BSS-eval v4 by museval over the whole signal: the paper's SDR, SIR and SAR, and the oracle for our own figures."""

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from marssep.errors import UsageError


@dataclass(frozen=True, slots=True)
class BssScores:
    """Scores of the target in dB; all NaN where museval has no answer (the target or the interference is silent)."""

    sdr_db: float
    sir_db: float
    sar_db: float


UNDEFINED = BssScores(math.nan, math.nan, math.nan)


def bss_eval_v4(
    estimate: Float[np.ndarray, " n"], reference: Float[np.ndarray, " n"], *, mixture: Float[np.ndarray, " n"]
) -> BssScores:
    """Score one estimate in the manner of OmniSep's and MARS-Sep's evaluators.

    museval wants every source, so the pair (target, interference) is compared with (estimate, mixture - estimate), with
    `window=inf`, and the first row is reported. For one channel the SDR of v4 equals `snr_db`; SIR and SAR use filters
    of 512 taps. It costs a quarter of a second for four seconds of sound: score a part of a long list.

    Args:
        estimate: separated waveform, one channel.
        reference: the target.
        mixture: the recording; mixture - reference is the interference.

    Raises:
        UsageError: if museval is not installed.
        ValueError: if the lengths differ.
    """
    museval = load_museval()
    if not len(estimate) == len(reference) == len(mixture):
        raise ValueError(f"lengths differ: {len(estimate)}, {len(reference)}, {len(mixture)} samples.")
    estimate, reference, mixture = (np.asarray(item, dtype=np.float64) for item in (estimate, reference, mixture))
    sources = np.stack([reference, mixture - reference])[..., None]
    estimates = np.stack([estimate, mixture - estimate])[..., None]
    if not sources.any(axis=(1, 2)).all() or not estimates.any(axis=(1, 2)).all():
        return UNDEFINED  # museval refuses silence with a ValueError
    sdr, _, sir, sar, _ = museval.bss_eval(sources, estimates, window=np.inf, hop=np.inf)
    return BssScores(float(sdr[0, 0]), float(sir[0, 0]), float(sar[0, 0]))


@functools.cache
def load_museval() -> Any:
    """Load museval's module of formulas past its package.

    `import museval` also imports a reader of data sets that refuses to start without an ffmpeg program, which no
    formula needs.

    Raises:
        UsageError: if museval is not installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise UsageError(
            "BSS-eval needs museval, which is not installed; install it with: pip install 'marssep[evaluate]'."
        )
    path = Path(package.submodule_search_locations[0], "metrics.py")
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None  # a .py file always has a spec
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
