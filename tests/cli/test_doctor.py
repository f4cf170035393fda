"""`marssep doctor`: what is broken is found, and each problem says what to do."""

import json

import pytest

from marssep.query import weights


@pytest.fixture
def doctor(marssep, tiny_model):
    def call(model=tiny_model):
        ran = marssep("doctor", model, "--json")
        return ran, {row["name"]: row for row in json.loads(ran.out)["findings"]}

    return call


def test_all_is_well_with_a_model_that_needs_no_weights(doctor, marssep, tiny_model):
    ran, found = doctor()
    assert ran.code == 0
    assert not [row for row in found.values() if row["state"] == "broken"]
    assert {"environment", "libraries", "codecs", "devices", "threads", "model", "cache"} <= set(found)
    assert "FLAC" in found["codecs"]["what"]
    plain = marssep("doctor", tiny_model)
    assert plain.code == 0
    assert plain.out.startswith("good    environment")


def test_a_missing_model_is_broken(doctor, tmp_path):
    ran, found = doctor(tmp_path / "none")
    assert ran.code == 1
    assert "no such model" in found["model"]["what"]
    assert found["model"]["advice"]


def test_missing_weights_are_broken_and_say_how_to_get_them(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "cache"))
    ran, found = doctor("default")
    assert ran.code == 1
    assert found["encoder weights"]["advice"] == "marssep models fetch open"


def test_changed_weights_are_found(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path))
    folder = tmp_path / "encoders" / "open"
    folder.mkdir(parents=True)
    for source in weights.OPEN_SOURCES:
        (folder / f"{source.part}.safetensors").write_bytes(b"weights")
    weights._write_licences(weights.OPEN_SOURCES, folder)
    assert set(weights.check_fetched("open").values()) == {True}
    (folder / "audio.safetensors").write_bytes(b"other")
    (folder / "text.safetensors").unlink()
    ran, found = doctor("default")
    assert ran.code == 1
    assert found["encoder weights"]["what"].endswith("audio.safetensors, text.safetensors")
    assert "--force" in found["encoder weights"]["advice"]


def test_a_cache_that_cannot_be_written_is_broken(doctor, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "file"))
    ran, found = doctor()
    assert ran.code == 1
    assert found["cache"]["state"] == "broken"
    assert "MARSSEP_CACHE" in found["cache"]["advice"]


def test_too_many_threads_are_noted(doctor, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 512)
    ran, found = doctor()
    assert ran.code == 0
    assert found["threads"]["state"] == "note"
    assert "OMP_NUM_THREADS" in found["threads"]["advice"]
