"""Our metrics against the libraries that others report with: largest differences, silent cases, and speed.

    pip install 'marssep[dev]'
    python benchmarks/metric_agreement.py [--output results/metric-agreement.json]

Random signals of four kinds and the recording that comes with the package, each at several leakages. The table of
silent cases says what every library returns or raises, so that a reader knows where a figure cannot be compared.
"""

import argparse
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import fast_bss_eval
import log_wmse_audio_quality
import numpy as np
import soundfile
import torch
import torchmetrics.functional.audio as torchmetrics_audio

import marssep
from marssep.evaluate.results import write_text
from marssep.metrics import BssReference, bss_eval_batched, bss_eval_v4, log_wmse, si_sdr_db, snr_db
from marssep.metrics.bss import load_museval
from marssep.metrics.signal import CEILING_DB, FLOOR_DB

RATE, N = 32000, 128000
SEEDS = (0, 1)
LEAKS = (0.5, 0.1, 0.01)
SYSTEMS = 8  # rows of one evaluation that share their targets
LIBRARIES = ("museval", "torchmetrics", "fast-bss-eval", "log-wmse-audio-quality", "torch", "numpy", "scipy")
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]  # estimate, target, mixture


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/metric-agreement.json"))
    settings = parser.parse_args()
    warnings.simplefilter("ignore")  # the libraries warn of the silent cases, which are in the table
    torch.set_num_threads(1)
    started, worst, cases = time.monotonic(), dict[str, float](), list(signals())
    for _, triple in cases:
        for name, difference in differences(*triple).items():
            worst[name] = max(worst.get(name, 0.0), difference)
    results = {
        "what": "largest absolute difference between our figure and the library's, in the metric's unit",
        "cases": [name for name, _ in cases],
        "samples": N,
        "largest_difference": worst,
        "silent_cases": silent_table(),
        "speed": speed(cases[0][1]),
        "seeds": list(SEEDS),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES},
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def signals() -> Iterator[tuple[str, Triple]]:
    """Estimates that leak the rest and add something of neither."""
    seconds = np.arange(N) / RATE
    for seed in SEEDS:
        white = 0.1 * np.random.default_rng(seed).standard_normal((3, N))
        smooth = np.stack([np.convolve(row, np.ones(9) / 9, "same") for row in white])
        tones = np.stack([0.1 * np.sin(2 * np.pi * (hertz + seed) * seconds) for hertz in (440, 1000, 3000)])
        kinds = {"white": white, "coloured": smooth, "tones": tones, "recording": recording(seed)}
        for kind, (target, rest, artefact) in kinds.items():
            for leak in LEAKS:
                estimate = 0.9 * target + leak * rest + 0.3 * leak * artefact
                yield f"{kind}, leak {leak}, seed {seed}", (estimate, target, target + rest)


def recording(seed: int) -> np.ndarray:
    """Target and rest of the included example, and noise."""
    folder = Path(marssep.__file__).parent / "examples"
    read = [np.atleast_2d(soundfile.read(folder / name)[0].T).mean(0) for name in ("target.flac", "mixture.flac")]
    target, mixture = (np.pad(wave, (0, max(0, N - len(wave))))[:N] for wave in read)
    return np.stack([target, mixture - target, 0.05 * np.random.default_rng(seed).standard_normal(N)])


def differences(estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
    """Ours against every library on one signal."""
    e, s, x = (torch.from_numpy(wave) for wave in (estimate, target, mixture))
    ours, oracle = bss_eval_batched(e[None], s[None], mixture=x), bss_eval_v4(estimate, target, mixture=mixture)
    pairs = torch.stack([s, x - s]), torch.stack([e, x - e])
    third = fast_bss_eval.bss_eval_sources(*pairs, compute_permutation=False, use_cg_iter=None, load_diag=None)
    wave = [item.astype(np.float32) for item in (mixture, estimate, target)]
    published = float(log_wmse_audio_quality.calculate_log_wmse(*wave, RATE))
    both = {
        "SNR: torchmetrics": (snr_db(e, s), torchmetrics_audio.signal_noise_ratio(e, s)),
        "SI-SDR: torchmetrics": (si_sdr_db(e, s), torchmetrics_audio.scale_invariant_signal_distortion_ratio(e, s)),
        "SNR: museval SDR": (snr_db(e, s), oracle.sdr_db),
        "BSS-eval v4 SDR: museval": (ours.sdr_db, oracle.sdr_db),
        "BSS-eval v4 SIR: museval": (ours.sir_db, oracle.sir_db),
        "BSS-eval v4 SAR: museval": (ours.sar_db, oracle.sar_db),
        "BSS-eval v3 SDR: torchmetrics": (ours.filtered_sdr_db, torchmetrics_audio.signal_distortion_ratio(e, s)),
        "BSS-eval v3 SDR: fast_bss_eval": (ours.filtered_sdr_db, third[0][0]),
        "SIR: fast_bss_eval (v3)": (ours.sir_db, third[1][0]),
        "SAR: fast_bss_eval (v3)": (ours.sar_db, third[2][0]),
        "log-WMSE: log_wmse_audio_quality": (log_wmse(e, s, mixture=x, sample_rate=RATE), published),
    }
    return {name: abs(clipped(float(a)) - clipped(float(b))) for name, (a, b) in both.items()}


def clipped(value: float) -> float:
    """Within the range that ours are given in."""
    return min(max(value, FLOOR_DB), CEILING_DB)


def silent_table() -> list[dict[str, str]]:
    """What everybody says where the formulas have no answer."""
    generator = np.random.default_rng(0)
    target, rest = 0.1 * generator.standard_normal((2, 8000))
    silence, broken = np.zeros(8000), target.copy()
    broken[9] = np.nan
    cases: dict[str, Triple] = {
        "silent target": (target, silence, target + rest),
        "silent estimate": (silence, target, target + rest),
        "both silent": (silence, silence, rest),
        "estimate is the target": (target, target, target + rest),
        "estimate is the mixture": (target + rest, target, target + rest),
        "nothing but the target in the mixture": (target + 0.1 * rest, target, target),
        "constant estimate": (np.full(8000, 0.1), target, target + rest),
        "NaN in the estimate": (broken, target, target + rest),
    }
    return [{"case": name} | {who: said(ask, *case) for who, ask in ASKED.items()} for name, case in cases.items()]


def said(ask: Callable[[np.ndarray, np.ndarray, np.ndarray], object], *case: np.ndarray) -> str:
    """Its answer in words."""
    try:
        answer = np.asarray(ask(*case), dtype=np.float64).reshape(-1)
    except Exception as error:  # whatever it raises is the finding
        return f"raises {type(error).__name__}"
    return ", ".join(f"{value:.2f}" if math.isfinite(value) else str(value) for value in answer)


def tensors(function: Callable[..., object]) -> Callable[[np.ndarray, np.ndarray, np.ndarray], object]:
    """Hand it estimate and target as tensors."""
    return lambda e, s, x: function(torch.from_numpy(e), torch.from_numpy(s))


def ours_bss(e: np.ndarray, s: np.ndarray, x: np.ndarray) -> list[float]:
    """SDR, SIR, SAR."""
    rows = bss_eval_batched(*(torch.from_numpy(w)[None] for w in (e, s)), mixture=torch.from_numpy(x))
    return [rows.sdr_db.item(), rows.sir_db.item(), rows.sar_db.item()]


def museval_bss(e: np.ndarray, s: np.ndarray, x: np.ndarray) -> list[float]:
    """SDR, SIR, SAR past our own wrapper."""
    pair = np.stack([s, x - s])[..., None], np.stack([e, x - e])[..., None]
    sdr, _, sir, sar, _ = load_museval().bss_eval(*pair, window=np.inf, hop=np.inf)
    return [sdr[0, 0], sir[0, 0], sar[0, 0]]


def fast_bss(e: np.ndarray, s: np.ndarray, x: np.ndarray) -> list[float]:
    """SDR, SIR, SAR of version 3."""
    pair = [torch.from_numpy(np.stack(rows)) for rows in ((s, x - s), (e, x - e))]
    return [row[0].item() for row in fast_bss_eval.bss_eval_sources(*pair, compute_permutation=False)]


def ours_wmse(e: np.ndarray, s: np.ndarray, x: np.ndarray) -> float:
    """At 44.1 kHz, where the published one does not resample."""
    return log_wmse(*map(torch.from_numpy, (e, s)), mixture=torch.from_numpy(x), sample_rate=44100).item()


ASKED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], object]] = {
    "snr_db": tensors(snr_db),
    "torchmetrics signal_noise_ratio": tensors(torchmetrics_audio.signal_noise_ratio),
    "si_sdr_db": tensors(si_sdr_db),
    "torchmetrics scale_invariant_signal_distortion_ratio": tensors(
        torchmetrics_audio.scale_invariant_signal_distortion_ratio
    ),
    "torchmetrics signal_distortion_ratio": tensors(torchmetrics_audio.signal_distortion_ratio),
    "bss_eval_batched (SDR, SIR, SAR)": ours_bss,
    "museval (SDR, SIR, SAR)": museval_bss,
    "fast_bss_eval (SDR, SIR, SAR of v3)": fast_bss,
    "log_wmse": ours_wmse,
    "log_wmse_audio_quality": lambda e, s, x: log_wmse_audio_quality.calculate_log_wmse(
        *(item.astype(np.float32) for item in (x, e, s)), 44100
    ),
}


def speed(triple: Triple) -> dict[str, float]:
    """Processor seconds for one query of one system."""
    estimate, target, mixture = triple
    e, s, x = torch.from_numpy(estimate)[None], torch.from_numpy(target)[None], torch.from_numpy(mixture)

    def shared() -> None:
        reference = BssReference(s, x)
        for _ in range(SYSTEMS):
            reference(e)

    museval_seconds = seconds(lambda: bss_eval_v4(estimate, target, mixture=mixture))
    alone, together = seconds(lambda: bss_eval_batched(e, s, mixture=x)), seconds(shared) / SYSTEMS
    return {
        "museval_seconds": round(museval_seconds, 4),
        "ours_one_system_seconds": round(alone, 4),
        f"ours_{SYSTEMS}_systems_seconds_each": round(together, 4),
        "times_faster_one_system": round(museval_seconds / alone, 1),
        f"times_faster_{SYSTEMS}_systems": round(museval_seconds / together, 1),
    }


def seconds(work: Callable[[], object]) -> float:
    """Fewest processor seconds of three runs after one to warm up."""
    work()
    spent = []
    for _ in range(3):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


if __name__ == "__main__":
    main()
