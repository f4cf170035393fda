"""`marssep probe`: what it prints and draws, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from marssep.audio import encode_audio


def test_says_whether_and_when(marssep, tiny_model, recording, tmp_path):
    ran = marssep(
        "probe", recording, "--text", "dog", "--text", "rain", "--model", tiny_model, "-o", tmp_path / "p.png"
    )
    assert ran.code == 0
    assert ran.err == ""
    assert f"{recording}: text 'dog' is there (presence 0." in ran.out
    assert "0:00 to 0:00.562" in ran.out
    assert f"picture   {tmp_path / 'p.png'}" in ran.out
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG"


def test_json_holds_the_curves(marssep, tiny_model, recording, tmp_path):
    ran = marssep("probe", recording, "--audio", recording, "--like", "0-0.3", "--json", "--model", tiny_model)
    (row,) = map(json.loads, ran.out.splitlines())
    assert row["input"] == str(recording)
    assert row["query"]["like"] == [[0.0, 0.3]]
    assert len(row["confidence"]) == len(row["similarity"]) == 1
    assert row["where"] == ([[0.0, 0.562, row["confidence"][0]]] if row["confidence"][0] >= 0.5 else [])
    assert row["present"] == (row["presence"] >= row["presence_threshold"])
    assert row["picture"] is None
    assert not list(tmp_path.glob("*.png"))


def test_an_absent_sound(marssep, tiny_model, tmp_path):
    (tmp_path / "in.wav").write_bytes(encode_audio(np.zeros(16000), sample_rate=8000, format="WAV"))
    strict = tmp_path / "strict"
    strict.mkdir()
    (strict / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    config = json.loads((tiny_model / "config.json").read_text()) | {"presence_threshold": 0.5}
    (strict / "config.json").write_text(json.dumps(config))
    ran = marssep("probe", tmp_path / "in.wav", "--text", "dog", "--model", strict)
    assert "does not seem to be there (presence 0.00, threshold 0.50)" in ran.out
    assert "nowhere likely; surest at 0:00-0:01 (0.00)" in ran.out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "nothing in it"),
        (["--text", "dog", "-o", "p.jpg"], 2, "p.jpg: the picture is a PNG"),
        (["--text", "dog", "-o", "none/p.png"], 1, "none/p.png: cannot be written"),
        (["--like", "0:05-0:09"], 1, "ends after the recording"),
        (["--like", "5-3"], 2, "ends before it begins"),
        (["--audio", "none.wav"], 1, "none.wav: no such file"),
        (["--text", "dog", "--text", "rain", "--image", "a.png"], 2, "of one kind"),
    ],
)
def test_what_cannot_be_asked(marssep, tiny_model, recording, options, code, words):
    ran = marssep("probe", recording, *options, "--model", tiny_model)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "words"), [(None, "no such file"), (b"", "the file is empty"), (b"noise", "not an audio file")]
)
def test_recordings_that_cannot_be_read(marssep, tiny_model, tmp_path, data, words):
    if data is not None:
        (tmp_path / "in.wav").write_bytes(data)
    ran = marssep("probe", tmp_path / "in.wav", "--text", "dog", "--model", tiny_model, "-o", tmp_path / "p.png")
    assert ran.code == 1
    assert words in ran.err
    assert not (tmp_path / "p.png").exists()
