"""`marssep separate`: results on standard output, the rest on standard error, exit codes a script can rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def _events(ran, kind):
    return [row for row in map(json.loads, ran.out.splitlines()) if row["event"] == kind]


def test_events_are_json_lines(marssep, tiny_model, recording, tmp_path):
    ran = marssep(
        "separate", recording, tmp_path / "none.wav", recording, "--text", "dog", "--not", "rain", "--not", "bell",
        "--picture", "--json", "--model", tiny_model, "--output", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 1
    assert ran.err == ""
    rows = _events(ran, "done")
    assert [row["query"]["negative"] for row in rows] == [["rain", "bell"]] * 2
    assert len({row["target"] for row in rows}) == 2  # one name would overwrite the other
    for row in rows:
        assert read_audio(row["target"]).sample_rate == 16000
        with Image.open(row["picture"]) as picture:
            assert picture.format == "PNG"
    assert [row["input"] for row in _events(ran, "start")] == [
        str(recording),
        str(tmp_path / "none.wav"),
        str(recording),
    ]
    assert all(0.0 <= row["share"] <= 1.0 for row in _events(ran, "progress"))
    (failed,) = _events(ran, "failed")
    (summary,) = _events(ran, "summary")
    assert "no such file" in failed["error"]
    assert (summary["recordings"], summary["results"], summary["failed"]) == (3, 2, 1)
    assert summary["failures"] == [{"input": failed["input"], "error": failed["error"]}]


def test_several_queries_in_one_pass(marssep, tiny_model, recording, tmp_path):
    call = ("separate", recording, "--text", "dog", "--text", "rain", "--model", tiny_model, "-o", tmp_path / "out")
    assert marssep(*call).code == 0
    names = {path.name for path in (tmp_path / "out").glob("*.wav")}
    assert names == {f"talk.{query}.{part}.wav" for query in ("dog", "rain") for part in ("target", "residual")}
    ran = marssep(*call, "--shares")
    assert "talk.rest.residual.wav" in ran.out
    ran = marssep(*call, "--audio", recording)
    assert ran.code == 2
    assert "of one kind" in ran.err


def test_folders_patterns_and_templates(marssep, tiny_model, recording, tmp_path):
    takes = tmp_path / "takes"
    (takes / "day 1").mkdir(parents=True)
    for name in ("a.wav", "day 1/a.WAV", "notes.txt"):
        (takes / name).write_bytes(recording.read_bytes())
    ran = marssep("separate", takes, "--text", "dog", "--model", tiny_model, "-o", takes / "out", "--json")
    assert ran.code == 0
    for _ in range(2):  # results of the first run are not taken for recordings
        targets = [row["target"] for row in _events(ran, "done")]
        assert targets == [str(takes / "out" / "a.dog.target.wav"), str(takes / "out" / "day 1" / "a.dog.target.wav")]
        ran = marssep("separate", takes, "--text", "dog", "--model", tiny_model, "-o", takes / "out", "--json")
    ran = marssep(
        "separate", takes / "*.wav", takes / "day 1" / "*", "--text", "dog", "--model", tiny_model, "--json",
        "-o", tmp_path / "flat", "--template", "{part}/{name}",
    )  # fmt: skip
    assert [row["target"] for row in _events(ran, "done")] == [
        str(tmp_path / "flat" / "target" / name) for name in ("a.wav", "a-2.wav")
    ]
    ran = marssep("separate", takes / "*.flac", "--text", "dog", "--model", tiny_model)
    assert ran.code == 1
    assert "no file fits this pattern" in ran.err
    assert marssep("separate", recording, "--text", "dog", "--template", "{name}").code == 2


def test_jobs_resume_and_skip(marssep, tiny_model, recording, tmp_path):
    other = tmp_path / "other.wav"
    other.write_bytes(recording.read_bytes())
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    call = ("separate", recording, tmp_path / "bad.wav", other, "--text", "dog", "--model", tiny_model, "--json")
    call = (*call, "-o", tmp_path / "out")
    ran = marssep(*call, "--jobs", 2)
    assert ran.code == 1
    assert {Path(row["target"]).name for row in _events(ran, "done")} == {"talk.dog.target.wav", "other.dog.target.wav"}
    assert "not an audio file" in _events(ran, "failed")[0]["error"]
    (tmp_path / "out" / "other.dog.json").unlink()
    ran = marssep(*call, "--resume")
    assert {Path(row["target"]).name: row["skipped"] for row in _events(ran, "done")} == {
        "talk.dog.target.wav": True,
        "other.dog.target.wav": False,
    }
    assert _events(marssep(*call, "--skip-existing"), "summary")[0]["skipped"] == 2


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


def test_channels_may_be_masked_alike(marssep, tiny_model, recording, tmp_path):
    for flag, wanted in (("--adapt", True), ("--no-adapt", False)):
        marssep("separate", recording, "--text", "dog", flag, "--model", tiny_model, "-o", tmp_path / flag)
        assert json.loads((tmp_path / flag / "talk.dog.json").read_text())["settings"]["adapt"] is wanted


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


def test_a_name_that_is_no_text_is_a_name(tiny_model, recording, tmp_path):
    odd = recording.rename(tmp_path / os.fsdecode(b"Fl\xf6te.wav"))
    command = [sys.executable, "-m", "marssep", "separate", odd, "--text", "dog", "--model", tiny_model]
    for more in ((), ("--json",)):
        done = subprocess.run([*command, "-o", tmp_path / "out", *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (sidecar,) = (tmp_path / "out").glob("*.json")
    assert json.loads(sidecar.read_text())["input"] == str(odd)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["input"] for row in rows if "input" in row} == {str(odd)}
