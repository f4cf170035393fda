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
from marssep.runtime.levels import SecondLevels as PlainLevels
from marssep.separate import FileSettings
from marssep.separate.asked import Asked
from marssep.separate.chunks import QUIET
from marssep.separate.sources import ArraySource
from marssep.separate.streaming import Stream
from marssep.separate.trace import GridLevels, SecondLevels, Trace, loudest_db, over_seconds, shares_db

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


@given(st.integers(1, 12), st.floats(0.2, 6.0), st.integers(0, 9))
def test_the_loudest_stretch_by_loops_and_by_the_runtime_without_torch(n_seconds, stretch, seed):
    rng = np.random.default_rng(seed)
    mixture = (rng.standard_normal((2, n_seconds * 50 - 20)) * 10 ** rng.uniform(-5, 0)).astype(np.float32)
    gains = 10 ** rng.uniform(-2, 0, n_seconds).repeat(50)[: mixture.shape[-1]]
    target = (gains * mixture).astype(np.float32)
    levels = SecondLevels(50)
    levels.push(0, [torch.from_numpy(target), torch.from_numpy(mixture)])
    own, whole = levels.energies()
    length = min(math.ceil(stretch), n_seconds)
    ratios = [
        float(own[start : start + length].sum() / whole[start : start + length].sum())
        for start in range(n_seconds - length + 1)
    ]
    found = loudest_db(own[None], whole, seconds=stretch).item()
    assert found == pytest.approx(10 * math.log10(max(ratios)), abs=1e-3)
    plain, half = PlainLevels(50), target.shape[-1] // 3
    plain.push(0, target[:, :half], mixture[:, :half])
    plain.push(half, target[:, half:], mixture[:, half:])
    assert plain.loudest_db(seconds=stretch, quiet=QUIET) == pytest.approx(found, abs=1e-3)


def test_a_short_loud_target_is_not_quiet_in_a_long_recording_and_silence_is():
    mixture = torch.ones(3600)
    target = torch.zeros(2, 3600)
    target[0, 1000] = 0.9
    levels = loudest_db(target, mixture, seconds=4.1)
    assert levels[0] > -8.0
    assert levels[1] == -60.0
    assert loudest_db(target, 0 * mixture, seconds=4.1).tolist() == [-60.0, -60.0]
    plain = PlainLevels(10)
    plain.push(0, *np.zeros((2, 1, 99), np.float32))
    assert plain.loudest_db(seconds=4.1, quiet=QUIET) == -60.0
    target[1], mixture[7] = 1e-9, 1e-9  # a stretch in which next to nothing can be heard has no say
    mixture[:20] = 1e-9
    assert loudest_db(target, mixture, seconds=4.1)[1] == -60.0


@given(st.integers(1, 130), st.integers(1, 50), st.integers(1, 50))
def test_levels_on_the_grid_do_not_depend_on_the_pieces(n_steps, ahead, behind):
    rng = np.random.default_rng(n_steps)
    power, masks = (torch.from_numpy(rng.random(shape).astype(np.float32)) for shape in ((6, n_steps), (2, 6, n_steps)))
    weight = torch.arange(6.0)[:, None]
    levels, given_power, given_masks = GridLevels(weight, 0.032), 0, 0
    while given_masks < n_steps:
        if given_power < n_steps:
            levels.push(power[:, given_power : given_power + ahead])
            given_power = min(n_steps, given_power + ahead)
        stop = min(given_power, given_masks + behind)
        levels.masked(masks[..., given_masks:stop])
        given_masks = stop
    seconds = (torch.arange(n_steps) * 0.032).long()
    every = torch.cat([(masks.square() * power * weight).sum(1), (power * weight).sum(0, keepdim=True)])
    expected = torch.stack([every[:, seconds == second].sum(1) for second in range(int(seconds[-1]) + 1)], dim=1)
    torch.testing.assert_close(levels.energies(), expected)


def test_what_the_grid_says_of_levels_is_what_the_samples_say(separator):
    waveform = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 5 * RATE)).astype(np.float32))
    asked = Asked.of([Query(text="dog"), Query(text="rain")], separator.encoder)
    with Stream(ArraySource(waveform, RATE, "noise"), separator.model, separator.encoder, asked) as stream:
        stream.propose()
        guessed = stream._grid_levels.energies()
        for _ in stream.render(range(2), listening=True):
            pass
        measured = stream._levels.energies()
    assert guessed.shape == measured.shape
    shares = [shares_db(energies[:-1], energies[-1]) for energies in (guessed, measured)]
    torch.testing.assert_close(*shares, atol=0.5, rtol=0.0)


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
