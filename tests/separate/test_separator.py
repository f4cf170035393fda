"""The contract of the user's object, on a tiny untrained model."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from marssep import Audio, Query, Separator, read_audio, write_audio
from marssep.errors import InputError, ModelError, UsageError
from marssep.model import load_model
from marssep.query import load_encoder
from marssep.separate import streaming
from marssep.separate.chunks import hear


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


def _noise(channels, length, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, length))).astype(np.float32)


def _with(separator, **changes):
    config = separator.model.config.model_copy(update=changes)
    return Separator(dataclasses.replace(separator.model, config=config), separator.encoder)


@given(
    channels=st.integers(1, 8),
    length=st.integers(1, 30000),
    rate=st.sampled_from([8000, 11025, 16000, 44100, 48000, 96000, 192000]),
    negative=st.sampled_from([None, "rain"]),
    level=st.sampled_from([1e-6, 0.1, 10.0]),
)
def test_output_has_the_inputs_rate_channels_and_length_and_adds_up(separator, channels, length, rate, negative, level):
    waveform = level * 10 * _noise(channels, length)
    result = separator.separate((waveform, rate), text="dog barking", negative=negative)
    assert result.sample_rate == rate
    assert result.target.shape == result.residual.shape == waveform.shape
    np.testing.assert_allclose(result.target + result.residual, waveform, rtol=0, atol=1e-6 * level)
    assert 0.0 <= result.presence <= 1.0
    mask = result.mask
    assert mask.shape[1] == separator.model.spectral.n_frames(length, rate)
    assert mask.min() >= 0.0
    assert mask.max() <= 1.0 + 1e-5


@pytest.mark.parametrize("channels", [1, 2])
def test_one_sample_is_enough(separator, channels):
    result = separator.separate((np.full((channels, 1), 0.5, np.float32), 44100), text="dog")
    assert result.target.shape == (channels, 1)
    np.testing.assert_allclose(result.mixture, 0.5)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mask_adapts_to_its_recording(separator, channels):
    waveform = _noise(channels, 20000)
    adapted, plain = (separator.separate((waveform, 16000), text="dog", adapt=given) for given in (True, False))
    assert adapted.provenance.settings["adapt"]
    assert not plain.provenance.settings["adapt"]
    assert np.array_equal(adapted.grid_mask, plain.grid_mask)
    assert np.abs(adapted.target - plain.target).max() > 1e-4
    np.testing.assert_allclose(adapted.target + adapted.residual, waveform, atol=1e-6)


def test_equal_channels_are_one_channel(separator):
    waveform = _noise(1, 20000)
    one, two = (separator.separate((np.repeat(waveform, n, axis=0), 16000), text="dog") for n in (1, 2))
    np.testing.assert_allclose(two.target, np.repeat(one.target, 2, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("waveform", "asked"),
    [
        (_noise(1, 9000), False),
        (np.repeat(_noise(1, 9000), 2, axis=0), False),
        (_noise(2, 9000), True),
        (_noise(17, 9000), False),
    ],
    ids=["one", "equal", "two", "too-many"],
)
def test_directions_are_asked_where_channels_differ(separator, monkeypatch, waveform, asked):
    seen = []

    class Watched(streaming.Adaptation):
        def __init__(self, *given, directions, **rest):
            seen.append(directions)
            super().__init__(*given, directions=directions, **rest)

    monkeypatch.setattr(streaming, "Adaptation", Watched)
    separator.separate((waveform, 16000), text="dog")
    assert seen == [asked]


def test_silence_in_silence_out(separator):
    result = _with(separator, presence_threshold=0.3).separate((np.zeros((2, 9000)), 16000), text="dog")
    assert not result.target.any()
    assert not result.residual.any()
    assert result.presence == 0.0
    assert not result.present


def test_the_level_of_the_recording_does_not_matter(separator):
    waveform = _noise(1, 20000)
    quiet = separator.separate((waveform, 16000), text="dog")
    loud = separator.separate((100 * waveform, 16000), text="dog")
    np.testing.assert_allclose(loud.target, 100 * quiet.target, atol=1e-4)


def test_channels_share_one_mask_and_keep_their_places(separator):
    waveform = _noise(2, 20000)
    result = separator.separate((waveform, 16000), text="dog")
    swapped = separator.separate((waveform[::-1], 16000), text="dog")
    np.testing.assert_allclose(swapped.target, result.target[::-1], atol=1e-6)


def test_separating_twice_gives_the_same(separator):
    first, second = (separator.separate((_noise(1, 20000), 16000), text="dog").target for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_absent_sound_is_turned_down_and_the_rest_keeps_it(separator):
    waveform = _noise(1, 20000)
    never = _with(separator, presence_threshold=1.1, absent_attenuation_db=40.0)
    gated, free = (never.separate((waveform, 16000), text="dog", gate=gate) for gate in (True, False))
    assert not gated.present
    assert not free.present
    assert gated.provenance.attenuated_db == 40.0
    assert free.provenance.attenuated_db == 0.0
    np.testing.assert_allclose(gated.target, 0.01 * free.target, atol=1e-7)
    np.testing.assert_allclose(gated.target + gated.residual, waveform, atol=1e-7)


def test_a_quiet_target_is_left_alone_unless_it_is_surely_absent(separator):
    waveform, everything = (_noise(1, 20000), 16000), {"presence_threshold": 1.1, "quiet_db": -10.0}
    for threshold, attenuated in ((0.0, 0.0), (1.1, 40.0)):
        made = _with(separator, quiet_threshold=threshold, **everything).separate(waveform, text="dog")
        assert made.provenance.attenuated_db == attenuated
        assert not made.present
    loud = {"presence_threshold": 1.1, "quiet_db": 100.0, "quiet_threshold": 0.0}
    assert _with(separator, **loud).separate(waveform, text="dog").provenance.attenuated_db == 40.0


def test_a_present_sound_is_not_turned_down(separator):
    result = _with(separator, presence_threshold=0.0).separate((_noise(1, 20000), 16000), text="dog")
    assert result.present
    assert result.provenance.attenuated_db == 0.0


def test_a_negative_query_changes_the_target(separator):
    waveform = _noise(1, 20000)
    plain = separator.separate((waveform, 16000), text="dog")
    without = separator.separate((waveform, 16000), text="dog", negative="rain")
    assert np.abs(plain.grid_mask - without.grid_mask).max() > 1e-4
    both = separator.separate((waveform, 16000), text="dog", negative=["rain", "bell"])
    assert (both.grid_mask <= without.grid_mask + 1e-6).all()  # every further one takes its share
    assert np.abs(both.grid_mask - without.grid_mask).max() > 1e-4


def test_every_kind_of_query_and_input_is_taken(separator, tmp_path):
    waveform = _noise(2, 12000)
    write_audio(tmp_path / "in.wav", waveform, sample_rate=16000)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "dog.png")
    write_audio(tmp_path / "dog.wav", _noise(1, 8000, seed=5), sample_rate=8000)
    audio = read_audio(tmp_path / "dog.wav")
    by_file = separator.separate(
        tmp_path / "in.wav", text="dog", audio=tmp_path / "dog.wav", image=tmp_path / "dog.png", weights={"text": 3.0}
    )
    by_value = separator.separate(
        Audio(waveform, 16000),
        text="dog",
        audio=(audio.waveform, audio.sample_rate),
        image=Image.new("RGB", (30, 20), "red"),
        weights={"text": 3.0},
    )
    np.testing.assert_allclose(by_file.target, by_value.target, atol=1e-6)
    assert by_file.provenance.query["weights"] == {"text": 3.0}
    assert by_value.provenance.query["audio"] == "waveform"
    whole = separator.separate_query((waveform, 16000), Query(audio=tmp_path / "dog.wav"))
    assert whole.provenance.query["text"] is None
    separator.separate((waveform, 16000), audio=audio)


def test_what_cannot_be_used_is_refused(separator):
    with pytest.raises(UsageError, match="nothing in it"):
        separator.separate((_noise(1, 100), 16000))
    with pytest.raises(InputError, match="0 channels"):
        separator.separate((np.zeros((0, 5), np.float32), 16000), text="dog")
    with pytest.raises(InputError, match="sample rate of 3 Hz"):
        separator.separate((_noise(1, 100), 3), text="dog")


def test_a_foreign_encoder_is_refused(separator):
    encoder = load_encoder("tiny")
    encoder.dimension = 99
    with pytest.raises(ModelError, match="queries of 16 numbers"):
        Separator(separator.model, encoder)


def test_loading_asks_for_no_network(tiny_model, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a constructor reached for the network"))
    assert Separator.load(tiny_model).model.sha256 == load_model(tiny_model).sha256


def test_chunk_seams_do_not_show_in_the_mask(separator):
    """In a steady sound, the mask moves no more where chunks begin and end than elsewhere."""
    result = separator.separate((_noise(1, 8000 * 12), 8000), text="dog")
    n_steps, chunk_steps = result.grid_mask.shape[1], separator.model.config.chunk_steps
    network, size = separator.model.network, separator.model.config.query_dimension
    silence = torch.zeros(network.n_bands, n_steps)
    starts = hear(network, silence, torch.zeros(1, size), chunk_steps=chunk_steps).starts.numpy()
    assert len(starts) > 10
    moves = np.abs(np.diff(result.grid_mask, axis=1)).mean(0)
    seams = np.concatenate([starts[1:] - 1, starts[:-1] + chunk_steps - 1])
    assert moves[seams].mean() < 1.2 * np.delete(moves, seams).mean()
