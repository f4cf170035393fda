"""BSS-eval v4 by museval: its SDR is our SNR, its silent cases have an answer."""

import inspect
import math

import numpy as np
import pytest
import torch

from marssep.errors import UsageError
from marssep.metrics import bss, bss_eval_v4, snr_db


def made(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target, other = 0.1 * rng.standard_normal((2, n))
    return target + 0.3 * other + 0.02 * rng.standard_normal(n), target, target + other


@pytest.mark.parametrize("seed", range(3))
def test_sdr_of_one_channel_is_the_snr(seed: int) -> None:
    estimate, target, mixture = made(seed)
    scores = bss_eval_v4(estimate, target, mixture=mixture)
    assert scores.sdr_db == pytest.approx(snr_db(torch.from_numpy(estimate), torch.from_numpy(target)).item(), abs=1e-6)
    assert scores.sdr_db < scores.sir_db < scores.sar_db


def test_leakage_lowers_sir_and_own_noise_lowers_sar() -> None:
    estimate, target, mixture = made(0, n=16000)
    noise = 0.05 * np.random.default_rng(9).standard_normal(16000)
    plain = bss_eval_v4(estimate, target, mixture=mixture)
    assert bss_eval_v4(estimate + 0.3 * (mixture - target), target, mixture=mixture).sir_db < plain.sir_db - 3
    assert bss_eval_v4(estimate + noise, target, mixture=mixture).sar_db < plain.sar_db - 3


def test_silence_has_no_score() -> None:
    estimate, target, mixture = made(0)
    silence = np.zeros_like(target)
    for case in ((silence, target, mixture), (estimate, silence, mixture), (estimate, target, target)):
        assert math.isnan(bss_eval_v4(case[0], case[1], mixture=case[2]).sdr_db)


def test_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate, target, mixture = made(0)
    with pytest.raises(ValueError, match="lengths differ"):
        inspect.unwrap(bss_eval_v4)(estimate[1:], target, mixture=mixture)  # past the shape check of the tests
    bss.load_museval.cache_clear()
    monkeypatch.setattr(bss.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"marssep\[evaluate\]"):
        bss_eval_v4(estimate, target, mixture=mixture)
    bss.load_museval.cache_clear()
