"""Many processes: reinforcement gives the curve of one; programs that are one process refuse company."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from marssep.corpus.store import Corpus
from marssep.errors import SettingsError
from marssep.model import build_network, save_model
from marssep.policy.beta import BetaMaskPolicy
from marssep.policy.exploration import EXPLORATIONS, ExplorationSettings, explore
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.train.reinforce import RewardParts, train_reinforce
from marssep.train.reinforce_settings import ReinforceSettings
from marssep.train.world import World

# float32, norms as deployed: what is left is the order of sums.
RELATIVE = 1e-4
SAME = ("loss", "reward", "si_sdr", "kept_groups", "gradient_norm", "concentration", "mask_contrast")
TINY = (
    'model.encoder="tiny"',
    "model.query_dimension=16",
    "model.chunk_steps=32",
    "model.network={channels=[8,12,16],query_channels=16}",
    "model.spectral={n_bands=32,max_frequency=8000.0}",
    "sample_rate=16000",
    'precision="no"',
    "batch_size=6",
    "workers=0",
    "group_size=4",
    "exploration.blocks=4",
    "steps=5",
    "reward.weights={si_sdr=1.0}",
    "validation.lists=[]",
    "log_every_steps=1",
)


def start_model(folder: Path) -> Path:
    settings = load_preset("reinforce", TINY)
    torch.manual_seed(1)
    save_model(folder, build_network(settings.model), settings.model, card={})
    return folder


def launch(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Two processes as a user starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), "-m", "marssep", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def curves(output: Path) -> dict[str, list[float]]:
    lines = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    return {name: [line[name] for line in lines if name in line] for name in SAME}


@pytest.mark.parametrize("extra", [(), ('advantage.kind="paper"', 'concentration.kind="predicted"')])
def test_two_processes_give_the_curve_of_one(corpus: Corpus, bank: EmbeddingBank, tmp_path: Path, extra) -> None:
    overrides = (*TINY, f'start="{start_model(tmp_path / "start")}"', *extra)
    settings = load_preset("reinforce", overrides)
    assert isinstance(settings, ReinforceSettings)
    train_reinforce(settings, corpus=corpus, bank=bank, output=tmp_path / "one", parts=RewardParts(), quiet=True)
    (folder,) = corpus.folders
    ran = launch(
        *("train", "reinforce", "--corpus", folder, "--output", tmp_path / "two", "--no-judge", "--quiet"),
        *(part for override in overrides for part in ("--set", override)),
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.count("5 rollouts") == 1, ran.stdout
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert min(len(values) for values in one.values()) == 5
    assert len(set(one["loss"])) == 5
    for name in SAME:
        assert two[name] == pytest.approx(one[name], rel=RELATIVE, abs=1e-6), name
    first, second = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("one", "two"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=0, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("kind", EXPLORATIONS)
def test_what_a_row_tries_does_not_depend_on_the_parts(kind: str) -> None:
    policy = BetaMaskPolicy.around(torch.rand(6, 2, 8, 8), 9.0)
    settings = ExplorationSettings(kind=kind, blocks=4)

    def draw(rows: slice, part: tuple[int, int]) -> torch.Tensor:
        some = BetaMaskPolicy(policy.proposal[rows], policy.concentration)
        return explore(some, 3, settings, generator=torch.Generator().manual_seed(7), part=part)

    whole = draw(slice(0, 6), (0, 1))
    parts = [draw(slice(2 * k, 2 * k + 2), (k, 3)) for k in range(3)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


def test_minibatches_of_several_processes_are_refused(
    corpus: Corpus, bank: EmbeddingBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_model(tmp_path / "start")
    settings = load_preset("reinforce", (*TINY, f'start="{start}"', "minibatches=2"))
    made = World.__init__

    def two(world: World, *arguments: str) -> None:
        made(world, *arguments)
        world.size = 2

    monkeypatch.setattr(World, "__init__", two)
    with pytest.raises(SettingsError, match="minibatches = 2"):
        train_reinforce(settings, corpus=corpus, bank=bank, output=tmp_path / "run", parts=RewardParts(), quiet=True)


@pytest.mark.parametrize("program", ["align", "distil"])
def test_programs_of_one_process_refuse_company(
    marssep, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = marssep("train", program, "--corpus", tmp_path, "--output", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.count("is one process; start it without the launcher (here: 2 processes)") == 1
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "launcher" not in marssep("train", program, "--corpus", tmp_path, "--output", tmp_path / "out").err
