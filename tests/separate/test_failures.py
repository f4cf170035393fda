"""A full disk, a read-only folder, a process that is killed: nothing lost, nothing corrupt, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from marssep import Query, Separator
from marssep.errors import OutputError
from marssep.separate import FileSettings

RATE = 16000
DOG = Query(text="dog")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


def _file(path, seconds):
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((round(RATE * seconds), 2)), RATE, subtype="PCM_16")
    return path


@pytest.fixture
def small_disk(tmp_path):
    """Two megabytes."""
    if not IS_ROOT:
        pytest.skip("only root can mount")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("filled", [0, 2])
def test_a_full_disk_is_one_sentence_and_nothing_is_left(separator, small_disk, tmp_path, filled):
    """With room for a part of the results, and with hardly any."""
    path = _file(tmp_path / "in.wav", 30.0)
    (small_disk / "other").write_bytes(bytes(filled * 1_000_000))
    with pytest.raises(OutputError, match=r"cannot be written.*make room"):
        separator.separate_file(path, [DOG], small_disk / "out")
    assert [file.name for file in small_disk.rglob("*") if file.is_file()] == ["other"]
    (small_disk / "other").unlink()
    separator.separate_file(_file(tmp_path / "short.wav", 2.0), [DOG], small_disk / "out")


def test_masks_that_do_not_fit_on_the_disk(separator, small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("marssep.spectral.spool._MOST_IN_MEMORY", 1000)
    path = _file(tmp_path / "in.wav", 200.0)
    with pytest.raises(OutputError, match="What is known of a recording cannot be kept on the disk"):
        separator.separate_file(path, [DOG], small_disk / "out")
    assert not [file for file in small_disk.rglob("*") if file.is_file()]


@pytest.mark.skipif(IS_ROOT and not Path("/proc/self").exists(), reason="root may write everywhere")
def test_a_folder_that_is_read_only(separator, tmp_path):
    path = _file(tmp_path / "in.wav", 1.0)
    locked = Path("/proc/self") if IS_ROOT else tmp_path / "locked"
    if not IS_ROOT:
        locked.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="choose another"):
        separator.separate_file(path, [DOG], locked / "out")


# Stands still at an event, so that what is sent to it comes in the middle however busy the machine is.
_PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from marssep.cli import events, main

class Output:
    def __init__(self, stream, stop_at):
        self.stream, self.stop_at = stream, stop_at

    def write(self, text):
        self.stream.write(text)
        if self.stop_at and self.stop_at in text:
            self.stop_at = ""
            self.stream.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
        return len(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

events.JsonSpeaker._EVERY = 0.0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
sys.stdout = Output(sys.stdout, sys.argv[2])
main(sys.argv[3:])
"""


def _start(*arguments, stop_at=""):
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-c", _PROGRAM, source, stop_at, "separate", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _until_it_stands(process):
    deadline = time.monotonic() + 120
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_resumed(tiny_model, separator, tmp_path, how):
    """The first recording is finished, the second is being written."""
    paths = [_file(tmp_path / "a.wav", 1.0), _file(tmp_path / "b.wav", 240.0)]
    out = tmp_path / "out"
    arguments = (*paths, "--text", "dog", "--model", tiny_model, "-o", out, "--json", "--resume")
    process = _start(*arguments, stop_at='b.wav", "stage": "render"')
    try:
        _until_it_stands(process)
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == (-how if how == signal.SIGKILL else 130)
    finally:
        process.kill()
        process.communicate()
    names = {path.name for path in out.iterdir() if not path.name.endswith(".partial")}
    assert names == {"a.dog.target.wav", "a.dog.residual.wav", "a.dog.json"}
    if how == signal.SIGINT:
        assert not list(out.glob("*.partial"))
    finished = (out / "a.dog.target.wav").stat().st_mtime_ns
    for path in paths:
        (result,) = separator.separate_file(path, [DOG], out, settings=FileSettings(resume=True))
        assert result.skipped == (path.name == "a.wav")
    assert (out / "a.dog.target.wav").stat().st_mtime_ns == finished
    assert not list(out.glob("*.partial"))
    for path in paths:
        parts = [soundfile.read(out / f"{path.stem}.dog.{part}.wav")[0] for part in ("target", "residual")]
        np.testing.assert_array_equal(sum(parts), soundfile.read(path)[0])


def test_a_worker_that_is_killed_fails_its_recording_only(tiny_model, tmp_path):
    """As the system does when memory runs out."""
    paths = [_file(tmp_path / "long.wav", 600.0), _file(tmp_path / "b.wav", 0.5), _file(tmp_path / "c.wav", 0.5)]
    arguments = (*paths, "--text", "dog", "--model", tiny_model, "-o", tmp_path / "out", "--json", "--jobs", 2)
    process = _start(*arguments, stop_at='long.wav", "stage": "propose"')
    try:
        _until_it_stands(process)
        workers = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
        workers[0].kill()  # the resource tracker is a child, too
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    rows = [json.loads(line) for line in out.splitlines()]
    summary = rows[-1]
    assert process.returncode == 1
    assert 1 <= summary["failed"] <= 2
    assert all("process was ended" in failure["error"] for failure in summary["failures"])
    done = {Path(row["target"]).name for row in rows if row["event"] == "done"}
    assert summary["results"] + summary["failed"] >= len(paths) - 1
    assert {path.name for path in (tmp_path / "out").glob("*.target.wav")} >= done
