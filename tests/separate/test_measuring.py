"""Measuring: a child's own memory, the whole against the stream, ratios that mean what they say."""

import numpy as np
import pytest
import torch

from marssep import Query, Separator
from marssep.errors import MarssepError
from marssep.separate.measuring import (
    MOST_DB,
    measure_command,
    one_pass_target,
    peak_memory_mb,
    snr_by_window,
    snr_db,
    whole_target,
)

RATE = 16000


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


@pytest.mark.parametrize("negative", [None, "rain"])
def test_the_stream_is_the_whole_at_every_seam(separator, negative):
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, 20 * RATE)).astype(np.float32)
    waveform[:, 9 * RATE : 13 * RATE] *= 0.01
    query = Query(text="dog", negative=negative)
    given = (separator.model, torch.from_numpy(waveform), RATE, separator.embed(query))
    whole = whole_target(*given)
    streamed = torch.from_numpy(separator.separate_query((waveform, RATE), query, gate=False).target)
    assert snr_by_window(streamed, whole, RATE // 10).min() > 80
    # One pass hears more at once than a chunk, so it cannot be the same, nor can it be another sound altogether.
    assert 5 < snr_db(one_pass_target(*given), whole) < 80


def test_ratios_by_window():
    reference = torch.ones(1, 25)
    estimate = reference.clone()
    estimate[:, 10:20] += 0.1
    torch.testing.assert_close(snr_by_window(estimate, reference, 10), torch.tensor([MOST_DB, 20.0, MOST_DB]))
    assert snr_db(reference, torch.zeros(1, 25)) == -MOST_DB
    assert snr_db(torch.zeros(1, 25), torch.zeros(1, 25)) == MOST_DB


def test_a_childs_memory_is_its_own():
    held = np.ones(1 << 26)  # half a GiB, which a child would inherit in the figure of its parent
    cost = measure_command(["models", "--help"])
    assert peak_memory_mb() > 512 > cost.peak_memory_mb > 10
    assert cost.processor_seconds > 0
    assert cost.wall_seconds > 0
    del held


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(MarssepError, match=r"'marssep separate' failed: .*none.wav"):
        measure_command(["separate", str(tmp_path / "none.wav"), "--text", "dog"])
