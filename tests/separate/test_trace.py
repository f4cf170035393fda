"""Confidence of every second: what it is made of, and that files, memory and blocks agree on it."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep import Query, Separator, write_audio
from marssep.model import ModelConfig
from marssep.separate import FileSettings
from marssep.separate.trace import SecondLevels, Trace, over_seconds, shares_db

RATE = 8000


@pytest.fixture(scope="module")
def separator(tiny_model):
    loaded = Separator.load(tiny_model)
    fitted = {"second_bias": 1.0, "second_network": 0.5, "second_share": 0.1, "second_match": 0.7}
    config = loaded.model.config.model_copy(update=fitted | {"presence_match": 1.0})
    return Separator(dataclasses.replace(loaded.model, config=config), loaded.encoder)


@given(st.integers(1, 30000), st.integers(1, 9000), st.sampled_from([1000, 8000]))
def test_energies_of_seconds_do_not_depend_on_the_pieces(length, size, rate):
    waveforms = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, length)).astype(np.float32))
    levels = SecondLevels(rate)
    for start in range(0, length, size):
        levels.push(start, [waveform[:, start : start + size] for waveform in waveforms])
    seconds = waveforms.double().square().sum(1).split(rate, dim=-1)
    expected = torch.stack([second.sum(-1) for second in seconds], dim=-1).float()
    torch.testing.assert_close(levels.energies(), expected)


def test_shares_are_levels_relative_to_the_recording():
    shares = shares_db(torch.tensor([[1.0, 0.01, 0.0, 0.0]]), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(shares, torch.tensor([[0.0, -20.0, -60.0, -60.0]]))


def test_chunks_speak_for_the_seconds_around_their_middle():
    logits, starts = torch.tensor([[0.0], [3.0]]), torch.tensor([0, 30])
    heard = torch.tensor([True, True])
    made = over_seconds(logits, starts, heard, spans=(0.1, 4.0), seconds=6.5)[0]
    assert made.shape == (7,)
    assert made[0] == 0.0  # only the first chunk, 0 to 4 s, is there
    assert made[3] == pytest.approx(3.0 * 0.5 / (0.5 + 0.5), abs=1e-4)  # half-way between the middles, 2 s and 5 s
    assert made[4:].tolist() == pytest.approx([3.0] * 3)
    deaf = over_seconds(logits, starts, torch.tensor([False, True]), spans=(0.1, 4.0), seconds=6.5)[0]
    assert (deaf[:3] == -math.inf).all()
    assert deaf[3:].tolist() == pytest.approx([3.0] * 4)


def test_confidence_is_the_regression_that_the_config_says():
    config = ModelConfig(second_bias=1.0, second_network=0.5, second_share=0.1, second_match=2.0)
    trace = Trace(torch.tensor([2.0, -math.inf]), torch.tensor([-10.0, -60.0]), 0.25)
    assert trace.confidence(config) == pytest.approx([1 / (1 + math.exp(-1.5)), 0.0])


@pytest.mark.parametrize("block_seconds", [None, 0.3])
def test_memory_files_and_blocks_agree(separator, tmp_path, block_seconds):
    waveform = (0.1 * np.random.default_rng(1).standard_normal((2, RATE * 13 // 2))).astype(np.float32)
    write_audio(tmp_path / "in.wav", waveform, sample_rate=RATE, subtype="FLOAT")
    memory = separator.separate((waveform, RATE), text="dog")
    assert memory.confidence.shape == (7,)
    assert np.ptp(memory.confidence) > 1e-4
    settings = FileSettings(block_seconds=block_seconds)
    (result,) = separator.separate_file(tmp_path / "in.wav", [Query(text="dog")], tmp_path / "out", settings=settings)
    text = result.files.sidecar.read_text()
    assert json.loads(text)["confidence"] == pytest.approx(memory.confidence.tolist(), abs=1e-3)
    assert '"confidence": [0.' in text  # on one line


def test_seconds_of_silence_are_sure(separator):
    waveform = (0.1 * np.random.default_rng(1).standard_normal((1, RATE * 10))).astype(np.float32)
    waveform[:, RATE * 3 : RATE * 5] = 0
    confidence = separator.separate((waveform, RATE), text="dog").confidence
    assert (confidence[3:5] == 0).all()
    assert (np.delete(confidence, [3, 4]) > 0).all()
    assert not separator.separate((np.zeros((1, RATE * 3)), RATE), text="dog").confidence.any()


def test_a_sidecar_keeps_the_spaces_of_words(separator, tmp_path):
    result = separator.separate((np.full((1, RATE), 0.1, np.float32), RATE), text="[1,  2]")
    assert json.loads(result.save(tmp_path).sidecar.read_text())["query"]["text"] == "[1,  2]"
