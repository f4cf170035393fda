"""An exported model gives the sound that torch gives, without torch, and says so when it cannot."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from marssep import Separator
from marssep.audio import read_audio, write_audio
from marssep.errors import ModelError, OutputError, UsageError
from marssep.export import ExportSettings, export_model
from marssep.export.graphs import audio_trunk_graph, guesses_graph, head_graph, image_trunk_graph
from marssep.model import ModelConfig, build_network, save_model
from marssep.query.heads import MixtureHead, ProjectionHead
from marssep.query.trunks import AudioTrunk, ImageTrunk
from marssep.query.weights import is_fetched
from marssep.runtime import Runtime

TEXTS = ("dog barking", "rain")


def _recording(seconds=5.0, rate=11025):
    rng = np.random.default_rng(2)
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * 400 * time * (1 + 0.1 * time))
    return np.stack([tone, 0.5 * tone]).astype(np.float32) + (0.05 * rng.standard_normal((2, len(time)))).astype(
        np.float32
    )


def _snr_db(estimate, reference):
    return 10 * np.log10(np.square(reference).sum() / np.square(estimate - reference).sum())


@pytest.fixture(scope="module", params=["film_unet", "shared", "unet", "ensemble"])
def pair(request, tmp_path_factory, tiny_model):
    """A tiny separator and the same one exported."""
    folder = tiny_model
    other = {
        "shared": {"channels": [8, 12, 16], "query_channels": 8, "shared": 1, "maps": 5},
        "unet": {"width": 8, "n_maps": 8, "levels": 4},
        "ensemble": {
            "members": [{"channels": [8, 12], "query_channels": 8}, {"channels": [4, 8], "query_channels": 8}]
        },
    }
    if request.param in other:
        config = ModelConfig(
            architecture={"shared": "film_unet"}.get(request.param, request.param),
            network=other[request.param],
            encoder="tiny",
            query_dimension=16,
            chunk_steps=32,
        )
        torch.manual_seed(4)
        folder = tmp_path_factory.mktemp("models") / request.param
        save_model(folder, build_network(config), config, card={})
    separator = Separator.load(folder)
    output = tmp_path_factory.mktemp("exported") / request.param
    export_model(separator, output, settings=ExportSettings(texts=TEXTS))
    return separator, output


@pytest.mark.parametrize("seconds", [0.3, 5.0])  # less than a chunk, and several batches of chunks
@pytest.mark.parametrize("negative", [None, "rain", ("rain", "dog barking")])
def test_the_sound_is_that_of_torch(pair, seconds, negative):
    separator, folder = pair
    recording = (_recording(seconds), 11025)
    wanted = separator.separate(recording, text="dog barking", negative=negative)
    made = Runtime.load(folder, threads=1).separate(recording, text="dog barking", negative=negative)
    assert _snr_db(made.target, wanted.target) > 80
    assert _snr_db(made.residual, wanted.residual) > 80
    assert made.presence == pytest.approx(wanted.presence, abs=1e-4)
    assert made.present == wanted.present
    np.testing.assert_allclose(made.target + made.residual, recording[0], atol=1e-6)


def test_the_graph_takes_any_number_of_chunks_and_queries(pair):
    separator, folder = pair
    runtime = Runtime.load(folder, threads=1)
    for chunks, queries in [(1, 1), (1, 5), (3, 1), (4, 2)]:
        power = torch.rand(chunks, 128, 32)
        power[:, 64:] = 0.0  # as above the Nyquist frequency
        query = torch.nn.functional.normalize(torch.randn(chunks, queries, 16), dim=-1)
        with torch.inference_mode():
            wanted = separator.model.network(power, query)
        logits, presence = runtime._network_outputs(power.numpy(), query.numpy())
        np.testing.assert_allclose(logits, wanted.logits, atol=1e-4)
        np.testing.assert_allclose(presence, wanted.presence, atol=1e-4)


@pytest.mark.parametrize("gate", [True, False])
def test_files_are_separated_as_arrays_are(pair, gate, tmp_path):
    recording = _recording(25.0)
    write_audio(tmp_path / "in.wav", recording, sample_rate=11025)
    runtime = Runtime.load(pair[1], threads=1)
    wanted = runtime.separate((recording, 11025), text="rain", gate=gate)
    made = runtime.separate_file(tmp_path / "in.wav", tmp_path / "out" / "in.rain", text="rain", gate=gate)
    for part, path in made.files.items():
        np.testing.assert_allclose(read_audio(path).waveform, getattr(wanted, part), atol=1e-7)
    assert (made.presence, made.present) == (wanted.presence, wanted.present)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["in.rain.residual.wav", "in.rain.target.wav"]


def test_a_query_is_embedded_once_for_many_recordings(pair, monkeypatch):
    runtime, recording = Runtime.load(pair[1], threads=1), (_recording(1.0), 11025)
    wanted = runtime.separate(recording, text="rain", negative="dog barking")
    asked = runtime.ask(text="rain", negative="dog barking")
    monkeypatch.setattr(runtime, "embed_text", None)
    made = runtime.separate(recording, asked=asked)
    np.testing.assert_array_equal(made.target, wanted.target)
    assert made.presence == wanted.presence
    with pytest.raises(UsageError, match=r"Runtime\.ask stands alone"):
        runtime.ask(asked=asked, text="rain")


def test_silence_gives_silence(pair):
    made = Runtime.load(pair[1], threads=1).separate((np.zeros((1, 4000), np.float32), 8000), text="rain")
    assert not made.target.any()
    assert made.presence == 0.0


def test_the_config_says_what_a_runtime_elsewhere_needs(pair):
    separator, folder = pair
    config = json.loads((folder / "runtime.json").read_text())
    wanted = separator.model.spectral.band_frequencies()
    np.testing.assert_allclose(config["band_frequencies"], wanted, atol=1e-3)
    assert config["model_sha256"] == separator.model.sha256
    assert config["chunk_steps"] == 32
    assert tuple(config["queries"]) == TEXTS
    assert {file["name"] for file in config["files"].values()} == {"network.onnx", "queries.npz"}


def test_nothing_imports_torch(pair, tmp_path):
    """In a process of its own: loading, separating and the command line."""
    write_audio(tmp_path / "in.wav", _recording(1.0), sample_rate=11025)
    script = f"""
import sys
from marssep.cli import run
code = run(["runtime", {str(pair[1])!r}, {str(tmp_path / "in.wav")!r}, "--text", "rain", "-o", {str(tmp_path)!r}])
assert code == 0
assert not {{"torch", "PIL", "matplotlib", "onnx"}} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert Path(row["target"]).is_file()
    assert Path(row["residual"]).name == "in.rain.residual.wav"


def test_what_was_not_exported_is_named(pair):
    runtime = Runtime.load(pair[1])
    with pytest.raises(ModelError, match=r"no query 'cat' is stored .*'dog barking', 'rain'"):
        runtime.separate((_recording(0.2), 8000), text="cat")
    with pytest.raises(ModelError, match="exported without 'audio_trunk'"):
        runtime.separate((_recording(0.2), 8000), audio=(_recording(0.2), 8000))
    with pytest.raises(ModelError, match="exported without 'image'"):
        runtime.separate((_recording(0.2), 8000), image="dog.png")
    with pytest.raises(UsageError, match="or an embedding in their place"):
        runtime.separate((_recording(0.2), 8000))
    with pytest.raises(UsageError, match="16 numbers, not"):
        runtime.separate((_recording(0.2), 8000), embedding=np.zeros(3, np.float32))


def test_a_stored_query_can_be_given_as_an_embedding(pair):
    separator, folder = pair
    runtime = Runtime.load(folder)
    embedding = separator.encoder.embed_text(["rain"])[0].numpy()
    by_name, by_value = (
        runtime.separate((_recording(0.5), 8000), **query).target
        for query in ({"text": "rain"}, {"embedding": embedding})
    )
    np.testing.assert_allclose(by_value, by_name, atol=1e-6)


@pytest.mark.parametrize("damage", ["gone", "changed", "json", "format"])
def test_a_damaged_folder_is_refused(pair, tmp_path, damage):
    for file in pair[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph, config = tmp_path / "network.onnx", tmp_path / "runtime.json"
    if damage == "gone":
        graph.unlink()
    elif damage == "changed":
        graph.write_bytes(graph.read_bytes()[:-1])
    else:
        config.write_text("{" if damage == "json" else '{"format": 99}')
    with pytest.raises(ModelError, match=r"export(ed)? "):
        Runtime.load(tmp_path)


def test_a_foreign_folder_is_refused(marssep, tmp_path):
    ran = marssep("runtime", tmp_path, tmp_path / "in.wav", "--text", "rain")
    assert ran.code == 1
    assert "runtime.json: no such file; give a folder that 'marssep export' made" in ran.err


def test_an_export_that_could_answer_nothing_is_refused(tiny_model, tmp_path):
    separator = Separator.load(tiny_model)
    with pytest.raises(UsageError, match="--text"):
        export_model(separator, tmp_path / "out")
    with pytest.raises(ModelError, match="'tiny' has no ONNX form"):
        export_model(separator, tmp_path / "out", settings=ExportSettings(text_encoder=True))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make this output folder"):
        export_model(Separator.load(tiny_model), tmp_path / "file" / "out", settings=ExportSettings(texts=TEXTS))


def test_the_command_exports_and_the_other_one_separates(marssep, tiny_model, tmp_path):
    ran = marssep("export", tiny_model, "-o", tmp_path / "made", "--text", "rain", "--text", "dog")
    assert ran.code == 0, ran.err
    assert "network.onnx" in ran.out
    write_audio(tmp_path / "in.wav", _recording(1.0), sample_rate=11025)
    ran = marssep(
        "runtime", tmp_path / "made", tmp_path / "none.wav", tmp_path / "in.wav",
        "--text", "dog", "--not", "rain", "--threads", 1, "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 1
    assert "none.wav: no such file" in ran.err
    assert json.loads(ran.out)["target"] == str(tmp_path / "out" / "in.dog-not-rain.target.wav")
    ran = marssep("runtime", tmp_path / "made", tmp_path / "in.wav", "--image", tmp_path / "cat.png")
    assert ran.code == 1
    assert "exported without 'image'; run 'marssep export' again and ask for it" in ran.err
    ran = marssep("runtime", tmp_path / "made", tmp_path / "in.wav", "--text", "dog", "--weights", "audio=2")
    assert ran.code == 2
    assert "there is no --audio in the query" in ran.err


def test_audio_graphs_are_those_of_torch():
    ort = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    trunk, head = AudioTrunk().requires_grad_(False), ProjectionHead(1024, 8).requires_grad_(False).eval()
    patches = torch.randn(5, 96, 64)
    run = [ort.InferenceSession(graph).run for graph in (audio_trunk_graph(trunk), head_graph(head))]
    features = run[0](None, {"patches": patches.numpy()})[0]
    np.testing.assert_allclose(features, trunk.embed_patches(patches), atol=1e-5)
    embedding = run[1](None, {"features": features})[0]
    np.testing.assert_allclose(embedding, head(torch.from_numpy(features)), atol=1e-5)


def test_picture_graphs_are_those_of_torch():
    ort = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    trunk = ImageTrunk("lite0").requires_grad_(False).eval()
    head = MixtureHead(trunk.n_features, 8)
    head.weight, head.bias = torch.randn(5, trunk.n_features), torch.randn(5)
    pixels = torch.randn(1, 3, trunk.side, trunk.side)
    run = [ort.InferenceSession(graph).run for graph in (image_trunk_graph(trunk), guesses_graph(head))]
    features = run[0](None, {"pixels": pixels.numpy()})[0]
    np.testing.assert_allclose(features, trunk(pixels), atol=1e-5)
    chances = run[1](None, {"features": features})[0]
    np.testing.assert_allclose(chances, head.guesses(torch.from_numpy(features)), atol=1e-5)


@pytest.mark.skipif(not is_fetched("open"), reason="weights are not fetched")
@pytest.mark.parametrize("negative", [None, "rain"])
def test_a_picture_means_what_it_means_with_torch(tmp_path_factory, negative):
    folder = tmp_path_factory.getbasetemp() / "with-pictures"
    separator = Separator.load()
    if not folder.is_dir():
        export_model(separator, folder, settings=ExportSettings(texts=TEXTS, image_encoder=True))
    runtime = Runtime.load(folder, threads=1)
    recording = Path(sys.modules["marssep"].__file__).parent / "examples" / "mixture.flac"
    picture = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 50)  # nothing in particular: many readings
    for gate in (True, False):
        wanted = separator.separate(recording, image=picture, negative=negative, gate=gate)
        made = runtime.separate(recording, image=picture, negative=negative, gate=gate)
        assert _snr_db(made.target, wanted.target) > 60
        assert made.presence == pytest.approx(wanted.presence, abs=1e-3)
    both = {"image": picture, "text": "rain", "negative": negative, "gate": False}
    wanted, made = separator.separate(recording, **both), runtime.separate(recording, **both)
    assert _snr_db(made.target, wanted.target) > 60
    silent = runtime.separate((np.zeros((1, 4000), np.float32), 8000), image=picture)
    assert (silent.presence, silent.target.any()) == (0.0, False)


@pytest.mark.skipif(not is_fetched("open"), reason="weights are not fetched")
def test_the_shipped_model_gives_the_same_sound_and_presence(tmp_path):
    separator = Separator.load()
    export_model(separator, tmp_path, settings=ExportSettings(texts=TEXTS))
    runtime = Runtime.load(tmp_path, threads=1)
    recording = Path(sys.modules["marssep"].__file__).parent / "examples" / "mixture.flac"
    wanted = separator.separate(recording, text="dog barking")
    made = runtime.separate(recording, text="dog barking")
    assert _snr_db(made.target, wanted.target) > 60
    assert made.presence == pytest.approx(wanted.presence, abs=1e-3)
    for more in ({}, {"text": "rain"}, {"text": "rain", "weights": {"audio": 3.0}}):
        query = {"audio": (wanted.target, wanted.sample_rate), "gate": False} | more
        by_example, made = separator.separate(recording, **query), runtime.separate(recording, **query)
        assert _snr_db(made.target, by_example.target) > 60
    config = json.loads((tmp_path / "runtime.json").read_text())
    del config["files"]["rivals"]
    (tmp_path / "runtime.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="exported without 'rivals'"):
        Runtime.load(tmp_path)


def test_presence_that_listens_needs_an_encoder_with_a_graph(tiny_model, tmp_path):
    separator = Separator.load(tiny_model)
    config = separator.model.config.model_copy(update={"presence_match": 1.0})
    listening = Separator(dataclasses.replace(separator.model, config=config), separator.encoder)
    with pytest.raises(ModelError, match="no ONNX form"):
        export_model(listening, tmp_path / "out", settings=ExportSettings(texts=TEXTS))
