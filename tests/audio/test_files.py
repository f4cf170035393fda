"""Reading: every format comes back whole, and what cannot be read is refused in one sentence."""

import logging

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from marssep.audio import check_waveform, decode_audio, encode_audio, read_audio, write_audio
from marssep.errors import InputError


def _noise(channels, length, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, length))).astype(np.float32)


@given(st.integers(1, 8), st.integers(1, 20000), st.sampled_from([8000, 22050, 44100, 96000, 192000]))
def test_reads_back_what_was_written(tmp_path_factory, channels, length, rate):
    path = tmp_path_factory.mktemp("audio") / "ä sound.wav"
    waveform = _noise(channels, length)
    write_audio(path, waveform, sample_rate=rate)
    audio = read_audio(path)
    assert audio.sample_rate == rate
    assert audio.subtype == "FLOAT"
    np.testing.assert_array_equal(audio.waveform, waveform)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "aiff"])
def test_reads_other_formats_to_the_exact_length(tmp_path, extension):
    waveform = _noise(2, 44101)
    write_audio(tmp_path / f"a.{extension}", waveform, sample_rate=44100)
    assert read_audio(tmp_path / f"a.{extension}").waveform.shape == waveform.shape


def test_decodes_from_memory_as_from_a_file(tmp_path):
    data = encode_audio(_noise(1, 5000), sample_rate=32000, format="FLAC")
    (tmp_path / "a.flac").write_bytes(data)
    np.testing.assert_array_equal(decode_audio(data, name="a").waveform, read_audio(tmp_path / "a.flac").waveform)


def test_reads_past_a_header_that_does_not_know_the_length(tmp_path):
    data = bytearray(encode_audio(_noise(2, 30000), sample_rate=44100, format="FLAC"))
    data[21] &= 0xF0  # the 36-bit sample count of FLAC's stream information; 0 means unknown
    data[22:26] = bytes(4)
    (tmp_path / "streamed.flac").write_bytes(data)
    assert read_audio(tmp_path / "streamed.flac").waveform.shape == (2, 30000)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_reads_a_wav_that_was_never_closed(tmp_path, subtype):
    data = bytearray(encode_audio(_noise(2, 3000), sample_rate=8000, format="WAV", subtype=subtype))
    at = data.find(b"data")
    data[4:8] = data[at + 4 : at + 8] = bytes(4)  # a recorder writes both lengths when it stops
    (tmp_path / "crashed.wav").write_bytes(data)
    assert read_audio(tmp_path / "crashed.wav").waveform.shape == (2, 3000)
    assert decode_audio(bytes(data), name="crashed").waveform.shape == (2, 3000)


def test_reads_more_than_the_header_promised(tmp_path, monkeypatch):
    monkeypatch.setattr("marssep.audio.files._FIRST_CAPACITY", 100)
    waveform = _noise(2, 50000)
    write_audio(tmp_path / "a.wav", waveform, sample_rate=8000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").waveform, waveform)


def test_gives_what_is_left_of_a_truncated_file_and_says_so(tmp_path, caplog):
    data = encode_audio(_noise(1, 100000), sample_rate=32000, format="FLAC")
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        length = read_audio(tmp_path / "cut.flac").waveform.shape[1]
    assert 30000 < length < 60000
    assert "damaged after" in caplog.text


def _folder(tmp_path):
    (tmp_path / "sub").mkdir()
    return tmp_path / "sub"


def _written(tmp_path, data):
    path = tmp_path / "in.wav"
    path.write_bytes(data)
    return path


def _wav(waveform):
    return encode_audio(waveform, sample_rate=8000, format="WAV")


def _wav_without_channels():
    data = bytearray(encode_audio(np.zeros(9), sample_rate=8000, format="WAV", subtype="PCM_16"))
    at = data.find(b"fmt ") + 8  # layout, channels, rate, ...
    data[at + 2 : at + 4] = bytes(2)
    return bytes(data)


BAD_FILES = {
    "missing": (lambda tmp: tmp / "none.wav", "no such file"),
    "folder": (_folder, "this is a folder"),
    "empty": (lambda tmp: _written(tmp, b""), r"is empty \(0 bytes\)"),
    "no frames": (lambda tmp: _written(tmp, _wav(np.zeros((1, 0)))), r"is empty \(0 samples\)"),
    "text": (lambda tmp: _written(tmp, b"hello " * 100), "not an audio file"),
    "NaN": (lambda tmp: _written(tmp, _wav(np.array([0.0, np.nan]))), "sample 1 is NaN or infinite"),
    "infinite": (lambda tmp: _written(tmp, _wav(np.array([np.inf, 0.0]))), "sample 0 is NaN or infinite"),
    "0 channels": (lambda tmp: _written(tmp, _wav_without_channels()), "0 or too many channels"),
}


@pytest.mark.parametrize(("make", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_refuses_in_one_sentence(tmp_path, make, sentence):
    path = make(tmp_path)
    with pytest.raises(InputError, match=sentence) as refused:
        read_audio(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=300), st.sampled_from([b"", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"fLaC", b"OggS", b"ID3"]))
def test_garbage_is_refused_and_nothing_else_happens(data, magic):
    try:
        audio = decode_audio(magic + data, name="garbage")
    except InputError:
        return
    assert audio.waveform.size > 0


@pytest.mark.parametrize(
    ("waveform", "sentence"),
    [
        (np.zeros((2, 3, 4)), "has shape"),
        (np.zeros((0, 4)), "0 channels"),
        (np.zeros((2, 0)), "0 samples"),
        (np.array(["a"]), "real numbers"),
        (np.array([1.0, np.nan]), "sample 1"),
    ],
)
def test_waveforms_are_checked(waveform, sentence):
    with pytest.raises(InputError, match=sentence):
        check_waveform(waveform, name="waveform")


def test_integer_waveforms_are_fixed_point():
    np.testing.assert_array_equal(check_waveform(np.array([-32768, 16384], np.int16), name="w"), [[-1.0, 0.5]])


def test_headerless_files_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.raw", np.zeros(100), 8000, subtype="PCM_16")
    with pytest.raises(InputError, match="not an audio file"):
        read_audio(tmp_path / "a.raw")
