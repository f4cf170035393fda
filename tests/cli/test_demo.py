"""`marssep demo`: the included example is whole, small, and separated with a measured result."""

import re

import numpy as np

from marssep import read_audio
from marssep.cli.demo import EXAMPLES
from marssep.corpus.example import CREDITS, MIXTURE, SPEC, TARGET
from marssep.corpus.lists import read_list


def test_says_where_everything_is_and_how_much_it_helped(marssep, tiny_model, tmp_path):
    ran = marssep("demo", "--model", tiny_model, "-o", tmp_path)
    assert ran.code == 0, ran.err
    for part in ("target.wav", "residual.wav", "png"):
        (file,) = tmp_path.glob(f"*.{part}")
        assert str(file) in ran.out
    before, after, gain = map(float, re.findall(r"([+-]?\d+\.\d) dB", ran.out))
    assert abs(after - before - gain) < 0.15


def test_the_example_is_small_credited_and_adds_up():
    files = sorted(EXAMPLES.iterdir())
    assert sum(file.stat().st_size for file in files) < 1_000_000
    mixture, target = read_audio(EXAMPLES / MIXTURE), read_audio(EXAMPLES / TARGET)
    assert mixture.sample_rate == target.sample_rate
    assert mixture.waveform.shape == target.waveform.shape
    rest = mixture.waveform - target.waveform
    overlap = np.vdot(rest, target.waveform) / np.sqrt(np.vdot(rest, rest) * np.vdot(target.waveform, target.waveform))
    assert abs(overlap) < 0.1  # the truth is a part of the mixture, not another recording
    (spec,) = read_list(EXAMPLES / SPEC)
    credits = (EXAMPLES / CREDITS).read_text(encoding="utf-8")
    assert credits.count("\n| ") == 1 + len(spec.sources)
