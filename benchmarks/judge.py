"""Is the judge sane? Classes of real recordings, the fall of its score under interference, and its front end.

    marssep models fetch judge
    python benchmarks/judge.py --esc10 DIR [--mixtures 24] [--output results/judge.json]

DIR is ESC-10 as its publisher lays it out or as `CLASS/FOLD-ID-TAKE.ogg`. Fold 4 is asked, folds 1 to 3 answer.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile
import torch

from marssep.evaluate.judge import SAMPLE_RATE, Judge, load_judge
from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions
from marssep.metrics import mean_interval, share_interval

LEVELS_DB = (14.0, 6.0, 0.0, -6.0)
NEIGHBOURS = 5
SEED = 0
_BATCH = 4


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--mixtures", type=int, default=24)
    parser.add_argument("--output", type=Path, default=Path("results/judge.json"))
    settings = parser.parse_args()
    started, judge = time.monotonic(), load_judge()
    clips = [clip for clip in sorted(settings.esc10.glob("*/*.ogg")) if clip.name[0] in "1234"]
    waves = [read(clip) for clip in clips]
    folds, labels = np.array([int(clip.name[0]) for clip in clips]), np.array([clip.parent.name for clip in clips])
    embeddings = embed(judge, waves)
    tested = [index for index in range(len(clips)) if folds[index] == 4]
    results = {
        "what": "aiSFX as a judge of separation: see docs/metrics.md",
        "classes": classify(embeddings, labels, folds),
        "interference": interference(judge, [waves[i] for i in tested], labels[tested], settings.mixtures),
        "front_end": front_end(judge, [waves[i] for i in tested[::10]]),
        "seed": SEED,
        "versions": library_versions(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def read(path: Path) -> np.ndarray:
    """Five seconds at 44.1 kHz, one channel."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise SystemExit(f"{path}: {rate} Hz, but ESC-10 is at {SAMPLE_RATE} Hz; is this another data set?")
    return np.resize(wave.mean(1), 5 * SAMPLE_RATE) if len(wave) else np.zeros(5 * SAMPLE_RATE, np.float32)


def embed(judge: Judge, waves: list[np.ndarray]) -> np.ndarray:
    """Unit-norm embeddings; NaN rows for silent clips."""
    parts = [np.stack(waves[at : at + _BATCH]) for at in range(0, len(waves), _BATCH)]
    return torch.cat([judge(torch.from_numpy(part), SAMPLE_RATE) for part in parts]).numpy()


def classify(embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> dict[str, object]:
    """Nearest class centre and a vote of the nearest recordings."""
    known = np.isfinite(embeddings).all(1)
    learned, asked = known & (folds < 4), known & (folds == 4)
    names = np.unique(labels)
    centres = np.stack([embeddings[learned & (labels == name)].mean(0) for name in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    by_centre = names[(embeddings[asked] @ centres.T).argmax(1)] == labels[asked]
    nearest = labels[learned][np.argsort(-(embeddings[asked] @ embeddings[learned].T), axis=1)[:, :NEIGHBOURS]]
    votes = np.array([[np.sum(row == name) for name in names] for row in nearest])
    by_vote = names[votes.argmax(1)] == labels[asked]
    return {
        "n_learned": int(learned.sum()),
        "n_asked": int(asked.sum()),
        "n_classes": len(names),
        "chance": round(1 / len(names), 3),
        "nearest_centre": share(by_centre),
        f"nearest_{NEIGHBOURS}": share(by_vote),
        "per_class_nearest_centre": {str(n): round(float(by_centre[labels[asked] == n].mean()), 3) for n in names},
    }


def share(right: np.ndarray) -> dict[str, float]:
    """Accuracy with its interval."""
    interval = share_interval(right)
    return {"accuracy": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def interference(judge: Judge, waves: list[np.ndarray], labels: np.ndarray, count: int) -> dict[str, object]:
    """Cosine of target and target plus a clip of another class, ever louder."""
    rng = np.random.default_rng(SEED)
    cosines = []
    for _ in range(count):
        target = int(rng.integers(len(waves)))
        other = int(rng.choice(np.flatnonzero(labels != labels[target])))
        s, r = waves[target].astype(np.float64), waves[other].astype(np.float64)
        r *= np.sqrt((s**2).mean() / max((r**2).mean(), 1e-12))
        heard = embed(judge, [w.astype(np.float32) for w in (s, *(s + r * 10 ** (-db / 20) for db in LEVELS_DB))])
        cosines.append(heard[1:] @ heard[0])
    scores = np.stack(cosines)
    scores = scores[np.isfinite(scores).all(1)]
    falls = np.diff(np.concatenate([np.ones((len(scores), 1)), scores], 1), axis=1) < 0
    rows = []
    for index, level in enumerate(LEVELS_DB):
        interval = mean_interval(scores[:, index], seed=SEED)
        rows.append({"snr_db": level} | {k: round(getattr(interval, k), 4) for k in ("mean", "low", "high")})
    return {
        "n_mixtures": len(scores),
        "cosine": rows,
        "falls_at_every_step": share(falls.all(1)),
        "falls_from_14_to_0_db": share(scores[:, 2] < scores[:, 0]),
    }


def front_end(judge: Judge, waves: list[np.ndarray]) -> dict[str, object]:
    """Largest difference of the log-mel values from those of the package's librosa path, computed as it does."""
    import librosa

    largest = 0.0
    for wave in waves:
        scaled = wave / max(np.abs(wave).max(), 1e-12)
        theirs = librosa.feature.melspectrogram(
            y=scaled, sr=float(SAMPLE_RATE), n_mels=96, norm=1.0, fmin=0.0, fmax=22050.0,
            htk=True, power=2.0, hop_length=1024, win_length=2048,
        )  # fmt: skip
        theirs = np.log10(theirs * 10000.0 + 1)
        ours = judge.spectrogram(torch.from_numpy(wave)[None], SAMPLE_RATE)[0].numpy().T
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return {"librosa": librosa.__version__, "n_clips": len(waves), "largest_difference_log10": largest}


if __name__ == "__main__":
    main()
