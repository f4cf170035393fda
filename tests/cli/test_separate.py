"""`marssep separate`: results on standard output, the rest on standard error, exit codes a script can rely on."""

import json

from PIL import Image

from marssep import read_audio


def test_writes_target_residual_and_sidecar_and_says_where(marssep, tiny_model, recording, tmp_path):
    ran = marssep("separate", recording, "--text", "dog barking", "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 0
    assert ran.err == ""
    for part in ("target.wav", "residual.wav"):
        path = tmp_path / "out" / f"talk.dog-barking.{part}"
        assert str(path) in ran.out
        assert read_audio(path).waveform.shape == (2, 9000)
    assert (tmp_path / "out" / "talk.dog-barking.json").is_file()


def test_json_is_one_line_per_recording(marssep, tiny_model, recording, tmp_path):
    ran = marssep(
        "separate", recording, recording, "--text", "dog", "--not", "rain", "--picture", "--json",
        "--model", tiny_model, "--output", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["query"]["negative"] for row in rows] == ["rain", "rain"]
    assert len({row["target"] for row in rows}) == 2  # one name would overwrite the other
    for row in rows:
        assert read_audio(row["target"]).sample_rate == 16000
        with Image.open(row["picture"]) as picture:
            assert picture.format == "PNG"


def test_audio_and_image_queries(marssep, tiny_model, recording, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "dog.png")
    ran = marssep(
        "separate", recording, "--audio", recording, "--image", tmp_path / "dog.png",
        "--model", tiny_model, "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "talk.talk-dog.target.wav").is_file()


def test_one_bad_file_does_not_stop_the_others(marssep, tiny_model, recording, tmp_path):
    ran = marssep(
        "separate", tmp_path / "none.wav", recording, "--text", "dog", "--model", tiny_model, "-o", tmp_path / "out"
    )
    assert ran.code == 1
    assert "none.wav: no such file" in ran.err
    assert "1 of 2 recordings could not be separated" in ran.err
    assert (tmp_path / "out" / "talk.dog.target.wav").is_file()


def test_an_absent_sound_is_reported(marssep, recording, tmp_path, monkeypatch, tiny_model):
    config = json.loads((tiny_model / "config.json").read_text())
    strict = tmp_path / "strict"
    strict.mkdir()
    (strict / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    (strict / "config.json").write_text(json.dumps(config | {"presence_threshold": 1.0}))
    ran = marssep("separate", recording, "--text", "dog", "--model", strict, "-o", tmp_path / "out")
    assert "seems to be absent (target turned down by 40 dB)" in ran.out
    ran = marssep("separate", recording, "--text", "dog", "--no-gate", "--model", strict, "-o", tmp_path / "out")
    assert ran.out.splitlines()[0].endswith("the sound seems to be absent")
