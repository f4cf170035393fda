"""Acoustic fingerprints: 32 bits for every 32 ms, which survive other codecs and levels, and what shares them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Float, Int64, UInt32

_WINDOW, _HOP = 0.256, 0.032  # seconds; the long window makes neighbours alike, so that small shifts do no harm
_LOW, _HIGH, _BANDS = 200.0, 4000.0, 33
_QUIET = 1e-4  # of the loudest frame's power: quieter frames say nothing
_CROWD = 20  # clips that share a value: more, and it is one that everything has
_FEWEST = 5  # values that two clips must share at one shift
_ERRORS = 0.25  # share of differing bits of two clips laid over each other; those of unrelated sounds differ in half

Fingerprint = UInt32[np.ndarray, " _"]


def fingerprint(waveform: Float[np.ndarray, " n"], sample_rate: int) -> Fingerprint:
    """Signs of how the differences between neighbouring bands change from frame to frame; 0 for frames that are quiet.

    Args:
        waveform: one channel.
        sample_rate: Hz.
    """
    size, hop = round(_WINDOW * sample_rate), round(_HOP * sample_rate)
    if len(waveform) < size + hop:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)))
    edges = np.geomspace(_LOW, min(_HIGH, sample_rate / 2), _BANDS + 1) / sample_rate * size
    bands = np.add.reduceat(power, edges.astype(int)[:-1], axis=1)
    change = np.diff(np.diff(bands, axis=1), axis=0) > 0
    values = (change * (np.uint32(1) << np.arange(_BANDS - 1, dtype=np.uint32))).sum(axis=1, dtype=np.uint32)
    level = bands[1:].sum(axis=1)
    return np.where(level > _QUIET * level.max(initial=0.0), values, np.uint32(0))


def duplicates(prints: Mapping[str, Fingerprint]) -> list[tuple[str, str]]:
    """Pairs of clips of which one is, or is in, the other.

    Clips that share values at one shift are laid over each other and compared bit for bit.
    """
    names = sorted(prints)
    votes: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for members in _sharing([prints[name] for name in names]):
        for (one, at), (other, then) in combinations(members, 2):
            if one != other:
                votes[one, other][at - then] += 1
    found = []
    for (one, other), shifts in sorted(votes.items()):
        shift, count = shifts.most_common(1)[0]
        if count >= _FEWEST and _error(prints[names[one]], prints[names[other]], shift) < _ERRORS:
            found.append((names[one], names[other]))
    return found


def _sharing(rows: Sequence[Fingerprint]) -> list[list[tuple[int, int]]]:
    """Places (clip, frame) that have the same value, in groups of a few clips."""
    values = np.concatenate([*rows, np.zeros(0, np.uint32)])
    clips: Int64[np.ndarray, " _"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    frames = np.concatenate([*(np.arange(len(row)) for row in rows), np.zeros(0, int)])
    order = np.lexsort((clips, values))
    values, clips, frames = values[order], clips[order], frames[order]
    groups = []
    for begin, end in _runs(values):
        if values[begin] != 0 and 1 < len(set(clips[begin:end].tolist())) <= _CROWD and end - begin <= 4 * _CROWD:
            groups.append(list(zip(clips[begin:end].tolist(), frames[begin:end].tolist(), strict=True)))
    return groups


def _runs(values: Fingerprint) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(begin, end) for begin, end in pairwise(edges) if end - begin > 1]


def _error(one: Fingerprint, other: Fingerprint, shift: int) -> float:
    begin, end = max(0, shift), min(len(one), len(other) + shift)
    left, right = one[begin:end], other[begin - shift : end - shift]
    heard = (left != 0) & (right != 0)
    if not heard.any():
        return 1.0
    return float(np.bitwise_count(left[heard] ^ right[heard]).mean() / (_BANDS - 1))
