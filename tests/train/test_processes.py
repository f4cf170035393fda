"""Many processes: two give the curve of one, also after one was killed, and with another number after a resume."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from marssep.corpus.made import make_corpus
from marssep.corpus.pack import PackSettings, pack
from marssep.corpus.store import Corpus
from marssep.errors import SettingsError
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.train.batches import TrainingBatches
from marssep.train.supervised import SupervisedRun, train_supervised
from marssep.train.world import World

# float32, dropout on, batch norm over the global batch: what is left is the order of sums.
RELATIVE = 1e-4
OVERRIDES = (
    "steps=12",
    "batch_size=8",
    "accumulation=2",
    'precision="no"',
    "log_every_steps=1",
    "checkpoint_every_steps=4",
    "queries.absent=0.5",
    "loss.suppression=0.02",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "made"
    make_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def alone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("alone")
    corpus = Corpus.open(made)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), made.parent / ".features")
    train_supervised(load_preset("smoke", OVERRIDES), corpus=corpus, bank=bank, output=output, quiet=True)
    return output


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(
    made: Path,
    output: Path,
    *more: str,
    overrides: tuple[str, ...] = OVERRIDES,
    machines: tuple[str, ...] = ("--num_machines", "1"),
    port: int | None = None,
) -> subprocess.Popen:
    """Two processes as a user starts them, or this machine's part of them."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += [*machines, "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port or free_port()), "-m", "marssep", "train", "supervised"]
    command += ["--preset", "smoke", "--quiet", "--corpus", str(made), "--output", str(output), *more]
    command += [part for override in overrides for part in ("--set", override)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return out


def losses(output: Path) -> list[float]:
    lines = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    return [line["loss"] for line in lines]


def assert_same_weights(first: Path, second: Path) -> None:
    # Adam moves a weight by its gradient's sign, even of nearly nothing: single weights differ more than the curve.
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (first, second))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}")


def test_two_processes_give_the_curve_of_one(made: Path, alone: Path, tmp_path: Path) -> None:
    out = finish(start(made, tmp_path / "two"))
    assert out.count("12 steps") == 1, out
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), rel=RELATIVE)
    assert_same_weights(alone, tmp_path / "two")
    figures = json.loads((tmp_path / "two" / "journal.jsonl").read_text().splitlines()[-1])
    assert figures["examples_per_second"] > 0
    assert 0 <= figures["data_wait"] <= 1


def test_two_machines_give_the_curve_of_one(made: Path, alone: Path, tmp_path: Path) -> None:
    """Two launchers that know each other by address and rank alone, as on two machines with a common folder."""
    port, common = free_port(), ("--num_machines", "2", "--main_process_ip", "127.0.0.1", "--machine_rank")
    started = [start(made, tmp_path / "two", machines=(*common, rank), port=port) for rank in ("0", "1")]
    said = [finish(process) for process in started]
    assert [out.count("12 steps") for out in said] == [1, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), rel=RELATIVE)
    assert_same_weights(alone, tmp_path / "two")


def test_two_processes_that_mix_on_their_devices_give_the_curve_of_one(made: Path, tmp_path: Path) -> None:
    overrides = (*OVERRIDES, 'mixing_on="device"')
    finish(start(made, tmp_path / "two", overrides=overrides))
    corpus = Corpus.open(made)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), made.parent / ".features")
    settings = load_preset("smoke", overrides)
    train_supervised(settings, corpus=corpus, bank=bank, output=tmp_path / "one", quiet=True)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=RELATIVE)


def test_runs_that_stream_shards_give_one_curve_with_two_processes_and_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_corpus(tmp_path / "plain", per_split=12)
    packed = tmp_path / "packed"
    pack(Corpus.open(tmp_path / "plain"), packed, PackSettings(splits=(), shard_megabytes=0.05))
    windows = ("streaming.shards=2", "streaming.steps=3", "streaming.lanes=4", "streaming.turns=2", "workers=2")
    overrides = (*OVERRIDES, *windows)
    finish(start(packed, tmp_path / "two", overrides=overrides))
    assert not list(packed.glob("decoded-*"))
    one = _streamed(packed, tmp_path / "one", overrides)
    assert losses(tmp_path / "two") == pytest.approx(one, rel=RELATIVE)
    # Stopped between two moves of the windows, and gone on with another number of workers.
    original, calls = SupervisedRun._step, []

    def stopping(*given: object) -> object:
        calls.append(given)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(SupervisedRun, "_step", stopping)
        _streamed(packed, tmp_path / "parts", overrides)
    assert len(calls) == 7
    assert _streamed(packed, tmp_path / "parts", (*overrides, "workers=0"), resume=True) == one


def _streamed(packed: Path, output: Path, overrides: tuple[str, ...], *, resume: bool = False) -> list[float]:
    """Losses of a run in this process."""
    corpus = Corpus.open(packed, streaming=True)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), packed.parent / ".features")
    settings = load_preset("smoke", overrides)
    progress = train_supervised(settings, corpus=corpus, bank=bank, output=output, resume=resume, quiet=True)
    return losses(output) if progress.step == settings.steps else []


def test_a_killed_process_and_a_resume_with_two_and_with_one(made: Path, alone: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    process = start(made, killed)
    reached = killed / "checkpoint" / "progress.json"
    deadline = time.monotonic() + 120
    while not reached.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    workers = [
        child for child in psutil.Process(process.pid).children(recursive=True) if "supervised" in child.cmdline()
    ]
    workers[-1].kill()
    process.communicate(timeout=120)
    assert process.returncode != 0
    step = json.loads(reached.read_text())["step"]
    assert step in (4, 8), "killed too late to test anything"

    once_more = tmp_path / "once more"
    shutil.copytree(killed, once_more)
    finish(start(made, killed, "--resume"))
    assert losses(killed) == pytest.approx(losses(alone), rel=RELATIVE)
    assert_same_weights(alone, killed)

    corpus = Corpus.open(made)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), made.parent / ".features")
    settings = load_preset("smoke", OVERRIDES)
    train_supervised(settings, corpus=corpus, bank=bank, output=once_more, resume=True, quiet=True)
    assert losses(once_more) == pytest.approx(losses(alone), rel=RELATIVE)
    assert_same_weights(alone, once_more)


def test_parts_are_the_undivided_batch(made: Path) -> None:
    corpus = Corpus.open(made)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), made.parent / ".features")
    settings = load_preset("smoke", ("batch_size=6",))
    whole = TrainingBatches(corpus, bank, settings)[3]
    divided = TrainingBatches(corpus, bank, settings, parts=3)
    parts = [divided[3 * 3 + part] for part in range(3)]
    assert len(divided) == 3 * settings.steps
    assert torch.equal(torch.cat([part.query for part in parts]), whole.query)
    assert torch.equal(torch.cat([part.targets.power for part in parts]), whole.targets.power)


def test_a_batch_that_cannot_be_divided_is_refused(made: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(made)
    bank = EmbeddingBank.build(corpus, load_encoder("tiny"), made.parent / ".features")
    settings = load_preset("smoke", ("batch_size=4", "accumulation=3"))
    with pytest.raises(SettingsError, match="multiple of 3"):
        train_supervised(settings, corpus=corpus, bank=bank, output=tmp_path, quiet=True)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_a_launcher_that_wants_the_network_in_pieces_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(SettingsError, match=f"{variable}.*'--multi_gpu' instead"):
        World()
    monkeypatch.setenv(variable, "false")
    assert World().size == 1
