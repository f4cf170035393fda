"""Running commands as a person would, without starting an interpreter for each."""

from dataclasses import dataclass

import numpy as np
import pytest

from marssep.audio import write_audio
from marssep.cli import run


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def marssep(capsys):
    """Run `marssep ARGUMENTS...` and return exit code, standard output and standard error."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def recording(tmp_path):
    """A short stereo recording."""
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32)
    write_audio(tmp_path / "talk.wav", waveform, sample_rate=16000, subtype="PCM_16")
    return tmp_path / "talk.wav"
