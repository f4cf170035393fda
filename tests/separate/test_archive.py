"""Whole archives: every good file has one right result, whatever happens to workers, files and runs."""

import errno
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from marssep.audio import encode_audio, read_audio, write_audio
from marssep.errors import InputError, OutputError, UsageError
from marssep.separate.archive import ArchiveInput, ArchiveJob, ArchiveRow, ArchiveWorker, Ledger, list_inputs
from marssep.separate.archive.engine import EngineSettings, run_on_ray
from marssep.separate.archive.estimate import estimate
from marssep.separate.archive.inputs import PassingError
from marssep.separate.archive.ledger import MANIFEST, QUARANTINE, RESULTS
from marssep.separate.archive.work import MOST_ATTEMPTS, WORK, clear_work

KINDS = (
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("mp3", None),
    ("aiff", "PCM_16"),
    ("caf", "PCM_16"),
    ("w64", "PCM_16"),
    ("au", "ULAW"),
)
RATES = (8000, 16000, 22050, 44100)
QUESTION = "dog barking"


def make_archive(folder: Path, *, files: int, members: int = 0) -> set[str]:
    """Recordings of mixed kinds in subfolders and a shard, and five broken ones; returns the names of the good."""
    rng = np.random.default_rng(5)
    good = set()
    for number in range(files):
        suffix, subtype = KINDS[number % len(KINDS)]
        rate = RATES[number % len(RATES)]
        noise = 0.1 * rng.standard_normal((1 + number % 2, rate // 5)).astype(np.float32)
        name = f"{number % 7}/take {number}.{suffix}" if number else os.fsdecode(b"Fl\xf6te.wav")  # not UTF-8
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_audio(folder / name, noise, sample_rate=rate, subtype=subtype)
        good.add(name)
    if members:
        with tarfile.open(folder / "shard-000.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
            for number in range(members):
                noise = 0.1 * rng.standard_normal(4000).astype(np.float32)
                data = encode_audio(noise, sample_rate=16000, format="FLAC", subtype="PCM_16")
                for suffix, content in (("flac", data), ("json", b"{}")):
                    path = folder / "member"
                    path.write_bytes(content)
                    shard.add(path, f"{number:03d}.{suffix}")
                    path.unlink()
                good.add(f"shard-000.tar#{number:03d}.flac")
    nothing_good = np.full(2000, np.nan, np.float32)
    write_audio(folder / "not a number.wav", nothing_good, sample_rate=16000)
    (folder / "empty.wav").touch()
    (folder / "a letter.flac").write_text("Dear archive, this is not a sound. " * 100)
    (folder / "header only.ogg").write_bytes(b"OggS" + bytes(40))
    (folder / "noise.mp3").write_bytes(rng.bytes(5000))
    return good


@pytest.fixture
def worker(tiny_model: Path, tmp_path: Path) -> ArchiveWorker:
    return ArchiveWorker(ArchiveJob(text=QUESTION, model=str(tiny_model)), tmp_path / "out")


def one_input(folder: Path, seed: int = 0) -> ArchiveInput:
    folder.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
    write_audio(folder / "one.wav", noise, sample_rate=16000)
    return list_inputs(folder).inputs[0]


def with_two_workers(archive: Path, output: Path, model: Path) -> list[str]:
    """The command."""
    command = [sys.executable, "-m", "marssep", "separate-corpus", str(archive), str(output), "--text", QUESTION]
    return [*command, "--model", str(model), "--workers", "2"]


def test_two_workers_one_of_them_killed(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    archive, output = tmp_path / "archive", tmp_path / "out"
    good = make_archive(archive, files=180, members=20)
    assert len(good) == 200
    command = with_two_workers(archive, output, tiny_model)
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = kill_a_worker(run.pid, output / MANIFEST, after=20)
    out, err = run.communicate(timeout=500)
    assert killed, err
    assert run.returncode == 1, err
    assert out.startswith(f"{output}: 205 of 205 recordings were to do; 200 done, 5 in quarantine\n"), out
    assert err.startswith("marssep: not recordings by their names, left alone: 20 .json\n")
    assert "Traceback" not in err
    assert "INFO" not in err

    rows = [ArchiveRow.parse(line) for line in (output / MANIFEST).read_text().splitlines()]
    assert len(rows) == 205
    assert {row.input for row in rows if row.status == "done"} == good
    aside = [json.loads(line) for line in (output / QUARANTINE).read_text().splitlines()]
    assert sorted(row["input"] for row in aside) == sorted({row.input for row in rows} - good)
    assert all(row["reason"].startswith(row["input"]) for row in aside), aside
    workers = {int(row.worker.rpartition(":")[2]) for row in rows}
    assert killed in workers
    assert workers > {killed}
    assert not (output / WORK).exists()
    assert_right(rows, archive, output, tiny_model)

    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert "0 of 205 recordings were to do; 200 done, 5 in quarantine" in again.stdout
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} <= {output / QUARANTINE, output / ".lock"}


def test_a_cluster_that_loses_a_node(tiny_model: Path, tmp_path: Path) -> None:
    """Two nodes with a worker each; one dies with its worker, and the other does what is left."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    archive, output = tmp_path / "archive", tmp_path / "out"
    good = make_archive(archive, files=200)
    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=small | {"num_cpus": 2, "include_dashboard": False})
    try:
        lost = cluster.add_node(**small)
        cluster.wait_for_nodes()
        command = [*with_two_workers(archive, output, tiny_model), "--address", cluster.address]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        manifest = output / MANIFEST
        while run.poll() is None and not (manifest.is_file() and len(manifest.read_text().splitlines()) >= 20):
            time.sleep(0.01)
        assert run.poll() is None, "nothing was left to do when the node went"
        cluster.remove_node(lost, allow_graceful=False)
        out, err = run.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert run.returncode == 1, err
    assert out.startswith(f"{output}: 205 of 205 recordings were to do; 200 done, 5 in quarantine\n"), out
    rows = [ArchiveRow.parse(line) for line in manifest.read_text().splitlines()]
    assert len(rows) == 205
    assert {row.input for row in rows if row.status == "done"} == good
    assert_right(rows, archive, output, tiny_model)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://head:10001", "does not work through Ray's client"),
        ("head", "should be HOST:PORT"),
        ("127.0.0.1:1", "no cluster answers there"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(tmp_path: Path, address: str, says: str) -> None:
    pytest.importorskip("ray")
    rows = run_on_ray(ArchiveJob(text=QUESTION), tmp_path, [one_input(tmp_path)], EngineSettings(address=address))
    with pytest.raises(UsageError, match=re.escape(address) + ".*" + says):
        next(rows)


def kill_a_worker(driver: int, manifest: Path, *, after: int) -> int:
    """Kill the worker that wrote the last of so many lines, while it is at the next file; its number, 0 if none was."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and psutil.pid_exists(driver):
        lines = manifest.read_text().splitlines() if manifest.is_file() else []
        if len(lines) >= after:
            number = int(ArchiveRow.parse(lines[after - 1]).worker.rpartition(":")[2])
            if psutil.pid_exists(number):
                psutil.Process(number).kill()
                return number
        time.sleep(0.01)
    return 0


def assert_right(rows: list[ArchiveRow], archive: Path, output: Path, model: Path) -> None:
    """Every result is there once, and has the samples that a worker alone makes; every third is made again."""
    results = {path.stem: path for path in (output / RESULTS).rglob("*.json")}
    done = [row for row in rows if row.status == "done"]
    assert sorted(results) == sorted(row.key for row in done)
    assert len(list((output / RESULTS).rglob("*.wav"))) == 2 * len(done)
    alone = ArchiveWorker(ArchiveJob(text=QUESTION, model=str(model)), output.parent / "alone")
    inputs = {each.name: each for each in list_inputs(archive).inputs}
    for row in sorted(done, key=lambda row: row.input)[::3]:
        assert alone.process(inputs[row.input]).key == row.key
        for part in ("target", "residual"):
            name = f"{RESULTS}/{row.key[:2]}/{row.key}.{part}.wav"
            ours, again = read_audio(output / name), read_audio(alone.output / name)
            assert np.array_equal(ours.waveform, again.waveform), row.input


def test_results_are_those_of_the_plain_command(worker: ArchiveWorker, tmp_path: Path, marssep) -> None:
    one = one_input(tmp_path / "in")
    row = worker.process(one)
    assert (
        marssep("separate", one.path, "--text", QUESTION, "--model", worker.job.model, "-o", tmp_path / "plain").code
        == 0
    )
    sidecar = worker.output / RESULTS / row.key[:2] / f"{row.key}.json"
    ours, plain = json.loads(sidecar.read_text()), json.loads((tmp_path / "plain" / "one.dog-barking.json").read_text())
    assert ours["fingerprint"] == plain["fingerprint"]
    for part in ("target", "residual"):
        mine, theirs = read_audio(sidecar.parent / ours[part]), read_audio(tmp_path / "plain" / plain[part])
        assert np.array_equal(mine.waveform, theirs.waveform)


def test_a_second_file_with_the_same_bytes_costs_nothing(worker: ArchiveWorker, tmp_path: Path) -> None:
    one = one_input(tmp_path / "in")
    first, second = worker.process(one), worker.process(replace(one, name="copy.wav"))
    assert first.status == second.status == "done"
    assert first.key == second.key
    assert first.took > 0 == second.took
    assert first.duration == pytest.approx(3000 / 16000, abs=1e-3)
    sidecar = json.loads((worker.output / RESULTS / first.key[:2] / f"{first.key}.json").read_text())
    assert sidecar["input"] == "one.wav"
    assert (worker.output / RESULTS / first.key[:2] / sidecar["target"]).is_file()


def test_no_residual_is_kept_if_none_is_wanted(tiny_model: Path, tmp_path: Path) -> None:
    worker = ArchiveWorker(ArchiveJob(text=QUESTION, model=str(tiny_model), residual=False), tmp_path / "out")
    worker.process(one_input(tmp_path / "in"))
    assert [path.name.split(".", 1)[1] for path in sorted((tmp_path / "out" / RESULTS).rglob("*.*"))] == [
        "json",
        "target.wav",
    ]


def test_an_input_that_kills_its_worker_is_given_up(worker: ArchiveWorker, tmp_path: Path) -> None:
    """Every death leaves the count of attempts behind."""
    one = one_input(tmp_path / "in")

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    worker.loaded.separate_file = die
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(SystemExit):
            worker.process(one)
    row = worker.process(one)
    assert row.status == "quarantined"
    assert f"died {MOST_ATTEMPTS} times" in row.reason


def test_a_passing_fault_is_tried_again(worker: ArchiveWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    separate, calls = worker.loaded.separate_file, []

    def sometimes(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) < MOST_ATTEMPTS:
            raise RuntimeError("out of breath")
        return separate(*arguments, **options)

    worker.loaded.separate_file = sometimes
    row = worker.process(one_input(tmp_path / "in"))
    assert (row.status, row.attempts) == ("done", MOST_ATTEMPTS)
    worker.loaded.separate_file = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of breath"))
    row = worker.process(one_input(tmp_path / "other", seed=1))
    assert (row.status, row.reason) == ("quarantined", "one.wav: RuntimeError: out of breath")


def test_results_that_cannot_be_written_stop_the_run(
    worker: ArchiveWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    one = one_input(tmp_path / "in")
    worker.output.mkdir()
    (worker.output / RESULTS).write_text("in the way")
    assert worker.process(one).status == "stopped"


def test_an_archive_that_cannot_be_read_for_a_while(
    worker: ArchiveWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    one, times = one_input(tmp_path / "in"), []
    opened = Path.open

    def open_(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "one.wav":
            times.append(1)
            if len(times) == 1:
                raise OSError(errno.ESTALE, "Stale file handle")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(PassingError, match=r"one\.wav: cannot be read \(Stale"):
        one.sha256()
    times.clear()
    row = worker.process(one)
    assert (row.status, row.attempts) == ("done", 2)
    Path(one.path).unlink()
    row = worker.process(one)
    assert (row.status, row.attempts) == ("quarantined", 1)
    assert "No such file" in row.reason


@pytest.mark.parametrize("change", [-100, 100])
def test_an_input_that_changes_is_set_aside(worker: ArchiveWorker, tmp_path: Path, change: int) -> None:
    one = one_input(tmp_path / "in")
    content = Path(one.path).read_bytes()
    Path(one.path).write_bytes(content + bytes(change) if change > 0 else content[:change])
    row = worker.process(one)
    assert row.status == "quarantined"
    assert row.reason.startswith("one.wav: ")
    assert "changed" in row.reason
    assert not list(worker.output.rglob("*.wav"))


def test_a_changed_input_is_done_again(worker: ArchiveWorker, tmp_path: Path) -> None:
    one = one_input(tmp_path / "in")
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        ledger.add(worker.process(one))
        assert ledger.waiting([one]) == []
    changed = one_input(tmp_path / "in", seed=1)
    os.utime(changed.path, ns=(1, 1))
    changed = list_inputs(tmp_path / "in").inputs[0]
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        assert ledger.waiting([one, changed]) == [changed]
        ledger.add(worker.process(changed))
    (row,) = [ArchiveRow.parse(line) for line in (worker.output / MANIFEST).read_text().splitlines()]
    assert row.stamp == changed.stamp


def test_a_line_that_was_cut_off_is_found_again(worker: ArchiveWorker, tmp_path: Path) -> None:
    one = one_input(tmp_path / "in")
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        ledger.add(worker.process(one))
    manifest = worker.output / MANIFEST
    manifest.write_text(manifest.read_text()[:-20])
    clear_work(worker.output)
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        assert ledger.waiting([one]) == [one]
        row = worker.process(one)
        assert (row.status, row.took) == ("done", 0.0)
        ledger.add(row)
    assert len(manifest.read_text().splitlines()) == 1
    manifest.write_text(manifest.read_text().removesuffix("\n"))  # cut off just before its end
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        ledger.add(replace(row, input="an\u2028other"))
        assert ledger.waiting([one]) == []
    with Ledger(worker.output, {"text": QUESTION}) as ledger:
        assert set(ledger.rows) == {"one.wav", "an\u2028other"}
        for path in (worker.output / RESULTS).rglob("*.json"):
            path.unlink()
        assert ledger.waiting([one]) == [one], "its result has gone"
    manifest.write_text("{\n" + manifest.read_text())
    with pytest.raises(OutputError, match="line 1 is damaged"):
        Ledger(worker.output, {"text": QUESTION})


def test_one_output_belongs_to_one_question_and_one_run(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path / "out", {"text": "dog", "gate": True}),
        pytest.raises(OutputError, match="another run"),
    ):
        Ledger(tmp_path / "out", {"text": "dog", "gate": True})
    with pytest.raises(OutputError, match="another question \\(text changed"):
        Ledger(tmp_path / "out", {"text": "cat", "gate": True})
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "out", {})


def test_quarantine_is_left_alone_unless_asked(tmp_path: Path) -> None:
    one = one_input(tmp_path / "in")
    with Ledger(tmp_path / "out", {}) as ledger:
        ledger.add(ArchiveRow(input=one.name, stamp=one.stamp, status="quarantined", reason="broken"))
        assert ledger.waiting([one]) == []
        assert ledger.waiting([one], quarantined=True) == [one]
    assert "broken" in (tmp_path / "out" / QUARANTINE).read_text()


def test_listing_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_inputs(tmp_path / "nothing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no recording"):
        list_inputs(tmp_path)
    (tmp_path / "shard.tar").write_text("no tar" * 200)
    with pytest.raises(InputError, match="not a readable tar shard"):
        list_inputs(tmp_path)
    (tmp_path / "shard.tar").unlink()
    one_input(tmp_path)
    one_input(tmp_path / "out" / RESULTS)
    found = list_inputs(tmp_path, output=tmp_path / "out")
    assert [each.name for each in found.inputs] == ["one.wav"]
    assert found.ignored == {".txt": 1}
    with pytest.raises(UsageError, match="the archive and the output at once"):
        list_inputs(tmp_path, output=tmp_path)


def test_the_estimate_scales_what_it_measures(tiny_model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        noise = 0.1 * rng.standard_normal(1600 * (1 + number % 5)).astype(np.float32)
        write_audio(tmp_path / f"{number}.wav", noise, sample_rate=16000, subtype="PCM_16")
    inputs = list_inputs(tmp_path).inputs
    made = estimate(ArchiveJob(text=QUESTION, model=str(tiny_model)), inputs)
    assert (made.files, made.measured, made.failing) == (30, 3, 0.0)
    seconds = sum((each.size - 44) / 32000 for each in inputs)
    assert made.audio_hours * 3600 == pytest.approx(seconds, rel=0.05)
    assert made.output_gb * 1e9 > sum(each.size for each in inputs)
    assert made.hours(2) == pytest.approx(made.worker_hours / 2)


def test_the_command_estimates_and_refuses(marssep, tiny_model: Path, tmp_path: Path) -> None:
    one_input(tmp_path / "in")
    common = ("separate-corpus", tmp_path / "in", tmp_path / "out", "--model", tiny_model)
    ran = marssep(*common, "--text", QUESTION, "--estimate", "--price", "2", "--workers", "4")
    assert ran.code == 0, ran.err
    assert "of 4" in ran.out
    assert "at 2 per worker and hour" in ran.out
    assert not (tmp_path / "out").exists()
    assert marssep(*common).code == 2
    refused = marssep(*common, "--text", QUESTION, "--threads", "0")
    assert refused.code == 2
    assert "threads" in refused.err


def test_without_ray_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    rows = run_on_ray(ArchiveJob(text=QUESTION), tmp_path, [one_input(tmp_path / "in")], EngineSettings())
    with pytest.raises(UsageError, match=r"marssep\[ray\]"):
        next(rows)
