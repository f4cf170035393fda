"""What goes wrong is one sentence on standard error and a fixed exit code: 1 failed, 2 wrong usage."""

from pathlib import Path

import numpy as np
import pytest

from marssep.audio import encode_audio


def _file(tmp_path, data):
    (tmp_path / "bad.wav").write_bytes(data)
    return tmp_path / "bad.wav"


def _without_channels(tmp_path):
    data = bytearray(encode_audio(np.zeros(9), sample_rate=8000, format="WAV", subtype="PCM_16"))
    at = data.find(b"fmt ") + 8
    data[at + 2 : at + 4] = bytes(2)
    return _file(tmp_path, bytes(data))


BAD_INPUTS = {
    "missing": (lambda tmp: tmp / "none.wav", "no such file"),
    "folder": (lambda tmp: tmp, "no recording is in this folder"),
    "not audio": (lambda tmp: _file(tmp, b"not audio at all"), "not an audio file that can be read"),
    "empty": (lambda tmp: _file(tmp, b""), "the file is empty"),
    "no samples": (lambda tmp: _file(tmp, encode_audio(np.zeros(0), sample_rate=8000, format="WAV")), "0 samples"),
    "NaN": (lambda tmp: _file(tmp, encode_audio(np.array([np.nan]), sample_rate=8000, format="WAV")), "is NaN"),
    "0 channels": (_without_channels, "0 or too many channels"),
}


def _one_sentence(ran, code, words):
    assert ran.code == code
    assert words in ran.err
    assert ran.err.startswith("marssep: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("make", "words"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_recordings(marssep, tiny_model, tmp_path, make, words):
    ran = marssep("separate", make(tmp_path), "--text", "dog", "--model", tiny_model, "-o", tmp_path / "out")
    _one_sentence(ran, 1, words)


@pytest.mark.parametrize("option", ["--audio", "--image"])
def test_bad_query_files(marssep, tiny_model, recording, tmp_path, option):
    for make, _ in BAD_INPUTS.values():
        ran = marssep("separate", recording, option, make(tmp_path), "--model", tiny_model, "-o", tmp_path / "out")
        _one_sentence(ran, 1, ": ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("query", [[], ["--not", "rain"], ["--text", "  "]])
def test_a_query_with_nothing_in_it(marssep, tiny_model, recording, query):
    ran = marssep("separate", recording, *query, "--model", tiny_model)
    assert ran.code == 2
    assert "query" in ran.err


def test_no_recording(marssep):
    _one_sentence(marssep("separate", "--text", "dog"), 2, "No recording was named")


def test_an_output_folder_that_cannot_be_written(marssep, tiny_model, recording, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        ran = marssep("separate", recording, "--text", "dog", "--model", tiny_model, "-o", folder)
        _one_sentence(ran, 1, "choose another")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root may write")
def test_an_output_folder_without_permission(marssep, tiny_model, recording):
    for folder in ("/proc/self", "/proc/self/out"):
        ran = marssep("separate", recording, "--text", "dog", "--model", tiny_model, "-o", folder)
        _one_sentence(ran, 1, "choose another")


def _copy(tiny_model, folder):
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    return folder


def test_a_truncated_model(marssep, tiny_model, recording, tmp_path):
    model = _copy(tiny_model, tmp_path / "cut")
    (model / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:2000])
    _one_sentence(marssep("separate", recording, "--text", "dog", "--model", model), 1, "truncated")


def test_a_pickle_offered_as_a_model(marssep, recording, tmp_path):
    for name, data in (
        ("model.pt", b"PK\x03\x04"),
        ("model.ckpt", b"\x80\x02}q\x00."),
        ("weights", b"\x80\x02}q\x00."),
    ):
        (tmp_path / name).write_bytes(data)
        _one_sentence(marssep("separate", recording, "--text", "dog", "--model", tmp_path / name), 1, "pickle")


def test_a_model_that_does_not_exist(marssep, recording):
    _one_sentence(marssep("separate", recording, "--text", "dog", "--model", "defualt"), 1, "no such model")


def test_a_misspelt_option_or_command_names_the_nearest(marssep, recording):
    ran = marssep("separate", recording, "--txt", "dog")
    assert ran.code == 2
    assert "--text" in ran.err
    ran = marssep("seperate", recording)
    assert ran.code == 2
    assert "separate" in ran.err


def test_an_unknown_preset_key_names_the_nearest(marssep, tmp_path):
    ran = marssep("models", "info", "--preset", "smokey")
    assert ran.code == 2
    assert "smoke" in ran.err


def test_ctrl_c_is_not_a_crash(marssep, tiny_model, recording, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("marssep.separate.Separator.load", stop)
    _one_sentence(marssep("separate", recording, "--text", "dog", "--model", tiny_model), 130, "stopped")
