"""The benchmarks run and write what they say; their figures on a test machine mean nothing."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from marssep.audio import read_audio
from marssep.corpus.made import make_corpus
from marssep.model import ModelConfig, build_network, save_model

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "last"
    config = ModelConfig(network={"channels": [8, 8], "query_channels": 8}, encoder="tiny", query_dimension=16)
    save_model(folder, build_network(config), config, card={})
    return folder


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_separate_speed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--model", str(model), "--seconds", "2", "--runs", "1", "--output", str(tmp_path / "speed.json")]
    monkeypatch.setattr(sys, "argv", ["separate_speed.py", *options])
    load("separate_speed").main()
    results = json.loads((tmp_path / "speed.json").read_text())
    assert results["real_time_factor"] == pytest.approx(results["wall_seconds_median"] / 2, abs=1e-3)
    assert 50 < results["peak_memory_mb"] < 4000
    assert results["processor_seconds_median"] > 0


def test_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path / "corpus")
    options = ["--corpus", str(tmp_path / "corpus"), "--compression", "0.9", "0.98"]
    monkeypatch.setattr(sys, "argv", ["packing.py", *options, "--output", str(tmp_path / "packing.json")])
    load("packing").main()
    large, small = json.loads((tmp_path / "packing.json").read_text())["rows"]
    assert large["megabytes_of_all"] > small["megabytes_of_all"]
    assert 0 < large["distance_db_median"] < small["distance_db_median"]


def test_architectures(model: Path) -> None:
    benchmark = load("architectures")
    lines = [{"step": 50, "loss": 0.5, "seconds": 3.0}, {"step": 60, "open-val/text": 4.2, "seconds": 4.0}]
    (model.parent / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert benchmark.model_folder(model.parent, "last") == model
    run = benchmark.training(model.parent)
    assert run == {"steps": 60, "training_seconds": 4.0, "validation_by_text": {"open-val/text": [[60, 4, 4.2]]}}
    network = benchmark.measure_network(model, repeats=1)
    assert network["parameters"] > 0
    assert network["network_real_time_factor"] > 0
    quality = {"si_sdr_improvement_db": {"mean": 4.2, "low": 4.0, "high": 4.5}}
    table = benchmark.markdown([{"run": "a"} | run | network | quality])
    assert "4.20 [4.00, 4.50]" in table
    with pytest.raises(SystemExit, match="no model"):
        benchmark.model_folder(model.parent / "nothing", "last")


def test_runtimes(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--model", str(model), "--seconds", "2", "--runs", "1", "--output", str(tmp_path / "runtimes.json")]
    monkeypatch.setattr(sys, "argv", ["runtimes.py", *options, "--only", "onnxruntime"])
    monkeypatch.syspath_prepend(FOLDER)
    benchmark = load("runtimes")
    benchmark.main()
    results = json.loads((tmp_path / "runtimes.json").read_text())
    reference, *others = results["rows"]
    assert (reference["name"], reference["threads"], reference["snr_db"]) == ("torch-fp32", 1, None)
    assert [(row["name"], row["threads"]) for row in others] == [("onnxruntime", 1), ("onnxruntime", 2)]
    assert all(row["snr_db"] > 60 for row in others)
    assert all(0 < row["start_up_seconds"] < row["wall_seconds"] for row in results["rows"])
    # A process without torch is smaller than one with it; a parent's figure would be the same for all.
    assert max(row["peak_memory_mb"] for row in others) < 0.8 * reference["peak_memory_mb"]
    assert load("tables").runtimes(results).count("\n") == 6


def test_tables_of_the_pages_show_the_results(tmp_path: Path) -> None:
    tables = load("tables")
    pages = [(FOLDER.parent / page).read_text(encoding="utf-8") for page in tables.PAGES]
    for page in pages:
        assert tables.filled(page, FOLDER.parent / "results") == page
        assert tables.filled(page, tmp_path) == page
    for topic in tables.TABLES:
        (page,) = (page for page in pages if f"<!-- {topic}:begin " in page)
        assert f"<!-- {topic}:end -->" in page


def test_long_recording(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--model", str(model), "--hours", "0.005", "--minutes", "0.15", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", ["long_recording.py", *options, "--output", str(tmp_path / "long.json")])
    benchmark = load("long_recording")
    whole = [piece for piece, _ in zip(benchmark.pieces(), range(2), strict=False)]
    benchmark.write_recording(tmp_path / "a.wav", 9.0)
    read = read_audio(tmp_path / "a.wav").waveform
    assert read.shape == (2, 9 * benchmark.RATE)
    np.testing.assert_allclose(read, np.concatenate(whole, axis=1)[:, : read.shape[1]], atol=1e-4)
    benchmark.main()
    results = json.loads((tmp_path / "long.json").read_text())
    assert {name: row["seconds"] for name, row in results["recordings"].items()} == {
        "short": 9.0,
        "eight": 9.0,
        "long": 18.0,
    }
    assert results["exactness"]["seconds"] == 9.0
    assert results["exactness"]["worst_second_db"] > 60
    assert results["bars"]["worst second against the whole, dB"]["met"]
    eight = results["bars"]["eight queries over one, wall time"]
    wall = {name: row["wall_seconds_median"] for name, row in results["recordings"].items()}
    assert eight["value"] == pytest.approx(wall["eight"] / wall["short"], rel=0.01)
    assert eight["met"] == (eight["value"] <= eight["bar"])
    assert results["parts"]["each query"] > 0
