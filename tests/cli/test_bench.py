"""`marssep bench`: figures of a recording, and one sentence where there is none."""

import json

import numpy as np

from marssep.audio import write_audio
from marssep.cli import run
from marssep.separate import measuring
from marssep.separate.measuring import Cost


def test_figures_belong_to_the_recording(marssep, tiny_model, recording):
    ran = marssep("bench", recording, "--model", tiny_model, "--text", "dog", "--json")
    assert ran.code == 0, ran.err
    row = json.loads(ran.out)
    assert (row["seconds"], row["channels"], row["sample_rate"]) == (9000 / 16000, 2, 16000)
    assert row["compared_seconds"] == row["seconds"]
    assert row["real_time_factor"] == row["wall_seconds"] / row["seconds"]
    assert row["processor_seconds"] > 0
    assert 50 < row["peak_memory_mb"] < 4000
    assert row["stream_snr_db"] >= 100
    assert 0 < row["one_pass_snr_db"] <= 200


def test_words_say_the_same_and_nothing_is_kept(marssep, tiny_model, recording, monkeypatch, tmp_path):
    def here(arguments):
        assert run(arguments) == 0
        return Cost(1.5, 2.5, 350.0)

    monkeypatch.setattr(measuring, "measure_command", here)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    ran = marssep("bench", recording, "--model", tiny_model, "--compare", "0.3")
    assert ran.code == 0, ran.err
    assert "recording         0.6 s, 2 channels at 16000 Hz\nreal-time factor  2.6667 (1.50 s; 2.50 s of" in ran.out
    assert "peak memory       350 MB" in ran.out
    assert "the first 0.3 s" in ran.out
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_measured_is_refused(marssep, tiny_model, recording, tmp_path):
    (tmp_path / "words.wav").write_text("not a recording")
    ran = marssep("bench", tmp_path / "words.wav", "--model", tiny_model)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    ran = marssep("bench", recording, "--model", tiny_model, "--compare", "0")
    assert ran.code == 2
    assert "--compare 0" in ran.err
    write_audio(tmp_path / "rate.wav", np.full((1, 9), 0.1), sample_rate=100)
    ran = marssep("bench", tmp_path / "rate.wav", "--model", tiny_model)
    assert ran.code == 1
    assert "sample rate of 100 Hz" in ran.err
