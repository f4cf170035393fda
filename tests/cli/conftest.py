"""What several command tests need."""

import numpy as np
import pytest

from marssep.audio import write_audio


@pytest.fixture
def recording(tmp_path):
    """A short stereo recording."""
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32)
    write_audio(tmp_path / "talk.wav", waveform, sample_rate=16000, subtype="PCM_16")
    return tmp_path / "talk.wav"
