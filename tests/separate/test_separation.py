"""Saving: the sample format of the input, files that add up, a sidecar that says where they come from."""

import hashlib
import json

import numpy as np
import pytest

from marssep import Separator, read_audio, write_audio
from marssep.audio import slug
from marssep.errors import OutputError


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


def _recording(path, *, gain=0.1, subtype=None, channels=2):
    waveform = gain * np.random.default_rng(0).standard_normal((channels, 9000)).astype(np.float32)
    write_audio(path, waveform, sample_rate=16000, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("file", "subtype", "written"),
    [
        ("in.wav", "PCM_16", "PCM_16"),
        ("in.wav", "PCM_24", "PCM_24"),
        ("in.wav", "FLOAT", "FLOAT"),
        ("in.wav", "PCM_U8", "PCM_16"),
        ("in.flac", "PCM_16", "PCM_16"),
        ("in.ogg", None, "FLOAT"),
    ],
)
def test_files_have_the_inputs_format_and_add_up(separator, tmp_path, file, subtype, written):
    path = _recording(tmp_path / file, subtype=subtype)
    files = separator.separate(path, text="dog").save(tmp_path / "out" / "deeper")
    target, residual, mixture = (read_audio(part) for part in (files.target, files.residual, path))
    assert target.subtype == residual.subtype == written
    assert target.sample_rate == 16000
    tolerance = 1e-6 if written == "FLOAT" else 0
    np.testing.assert_allclose(target.waveform + residual.waveform, mixture.waveform, rtol=0, atol=tolerance)


def test_peaks_beyond_full_scale_are_kept_as_float(separator, tmp_path):
    loud = 30 * np.random.default_rng(0).standard_normal((1, 9000)).astype(np.float32)
    write_audio(tmp_path / "loud.wav", loud, sample_rate=16000)
    files = separator.separate(tmp_path / "loud.wav", text="dog").save(tmp_path)
    assert read_audio(files.target).subtype == "FLOAT"
    assert np.abs(read_audio(files.target).waveform).max() > 1.0


def test_names_tell_input_and_query(separator, tmp_path):
    result = separator.separate(_recording(tmp_path / "Talk 1.wav"), text="A dog, barking!", negative="rain")
    files = result.save(tmp_path / "out")
    assert files.target.name == "Talk 1.a-dog-barking-not-rain.target.wav"
    assert files.picture is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in (files.target, files.residual, files.sidecar)
    )
    assert result.save(tmp_path / "out", name="mine").residual.name == "mine.residual.wav"


@pytest.mark.parametrize(
    ("text", "name"), [("Dog barking", "dog-barking"), ("собака", "собака"), ("!?", "query"), ("a/../b", "a-b")]
)
def test_slugs_are_safe_in_any_script(text, name):
    assert slug(text) == name


def test_the_sidecar_says_where_everything_comes_from(separator, tmp_path):
    path = _recording(tmp_path / "in.wav", subtype="PCM_16")
    result = separator.separate(path, text="dog", audio=path)
    files = result.save(tmp_path)
    sidecar = json.loads(files.sidecar.read_text(encoding="utf-8"))
    assert sidecar["input_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar["model_sha256"] == separator.model.sha256
    nothing = dict.fromkeys(("image", "like", "weights", "negative", "negative_in"))
    assert sidecar["query"] == {"text": "dog", "audio": str(path)} | nothing
    assert (sidecar["sample_rate"], sidecar["channels"], sidecar["length"]) == (16000, 2, 9000)
    assert sidecar["presence"] == pytest.approx(result.presence, abs=1e-6)
    assert set(sidecar["versions"]) == {"marssep", "torch"}


@pytest.mark.parametrize("length", [1, 9000])
def test_a_picture_is_drawn_when_asked_for(separator, tmp_path, length):
    waveform = np.random.default_rng(0).standard_normal((1, length)).astype(np.float32)
    result = separator.separate((waveform, 8000), text="costs $5 or $6")
    files = result.save(tmp_path, picture=True)
    assert files.picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_made_is_refused(separator, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = separator.separate((np.zeros((1, 10)), 8000), text="dog")
    with pytest.raises(OutputError, match="cannot make this output folder"):
        result.save(tmp_path / "file" / "out")
