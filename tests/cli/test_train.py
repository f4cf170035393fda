"""`marssep data build made` and `marssep train supervised`, as a first look would use them."""

from pathlib import Path

import pytest

from marssep.cli import run
from marssep.corpus.lists import write_list
from marssep.corpus.mixing import MixingSettings, MixtureSampler
from marssep.corpus.store import Corpus
from marssep.model import load_model


def _train(made: Path, output: Path, *more: str) -> int:
    fixed = ("--preset", "smoke", "--corpus", str(made), "--output", str(output), "--quiet", "--set", "steps=2")
    return run(["train", "supervised", *fixed, *more])


def test_a_first_look_at_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    assert run(["data", "build", "made", "--output", str(made)]) == 0
    assert _train(made, tmp_path / "run") == 0
    assert f"{tmp_path / 'run' / 'last'}: 2 steps" in capsys.readouterr().out
    assert load_model(tmp_path / "run" / "last").config.encoder == "tiny"
    assert _train(made, tmp_path / "run") == 1
    assert "--resume" in capsys.readouterr().err
    assert _train(made, tmp_path / "run", "--resume", "--set", "steps=3") == 0


def test_the_best_model_is_named_when_there_is_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    run(["data", "build", "made", "--output", str(made)])
    sampler = MixtureSampler(Corpus.open(made), split="val", settings=MixingSettings(), duration=1.0)
    write_list(tmp_path / "val.jsonl", [sampler.draw(0, n_sources=2)])
    assert _train(made, tmp_path / "run", "--set", f'validation.lists=["{tmp_path / "val.jsonl"}"]') == 0
    assert f"{tmp_path / 'run' / 'best'}: 2 steps" in capsys.readouterr().out


def test_an_unknown_key_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(tmp_path, tmp_path / "run", "--set", "optimiser.clip_nrm=2") == 2
    assert "did you mean 'clip_norm'" in capsys.readouterr().err


def test_embeddings_made_elsewhere_give_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, bank = tmp_path / "made", tmp_path / "bank.safetensors"
    run(["data", "build", "made", "--output", str(made)])
    embed = ("data", "embed", "--corpus", str(made), "--encoder", "tiny", "--split", "train", "--output", str(bank))
    assert run(list(embed)) == 0
    assert "by encoder 'tiny'" in capsys.readouterr().out
    assert _train(made, tmp_path / "here") == 0
    assert _train(made, tmp_path / "there", "--embeddings", str(bank)) == 0
    ours, theirs = (load_model(tmp_path / name / "last") for name in ("here", "there"))
    assert ours.sha256 == theirs.sha256
    assert _train(made, tmp_path / "none", "--embeddings", str(tmp_path / "none.safetensors")) == 1
    assert "marssep data embed" in capsys.readouterr().err


def test_runs_are_joined_with_what_is_known_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    run(["data", "build", "made", "--output", str(made)])
    sampler = MixtureSampler(Corpus.open(made), split="val", settings=MixingSettings(), duration=1.0)
    write_list(tmp_path / "val.jsonl", [sampler.draw(0, n_sources=2)])
    validation = ("--set", f'validation.lists=["{tmp_path / "val.jsonl"}"]')
    for seed in (0, 1):
        assert _train(made, tmp_path / f"run-{seed}", *validation, "--set", f"seed={seed}") == 0
    assert (
        run(["models", "join", *(str(tmp_path / f"run-{seed}") for seed in (0, 1)), "-o", str(tmp_path / "both")]) == 0
    )
    assert "2 networks" in capsys.readouterr().out
    members = load_model(tmp_path / "both").card["members"]
    assert [member["training"]["settings"]["seed"] for member in members.values()] == [0, 1]
    assert {member["data"]["recordings"] for member in members.values()} == {8}
