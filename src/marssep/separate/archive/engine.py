"""The one door to Ray: inputs of an archive spread over workers that each hold a model, on this machine or a cluster.

Only names travel through Ray's object store; recordings and results go from and to disk inside the workers. So the
store stays small, and what is in memory at once is one recording per worker, however many wait.
"""

import contextlib
import json
import logging
import os
import platform
import re
import shutil
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from marssep.errors import MarssepError, UsageError
from marssep.separate.archive.inputs import ArchiveInput
from marssep.separate.archive.ledger import ArchiveRow
from marssep.separate.archive.work import ArchiveJob, ArchiveWorker
from marssep.settings import Settings

_WINDOW = 20_000  # inputs planned at once, so that a long list does not fill the driver's memory
_IN_FLIGHT = 2  # tasks given to a worker: one that it does, one that waits, no more
_STARTS = 4
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    # A busy machine may take its time to start Ray's parts.
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
    # Processes in store for tasks of any kind; ours are started for their work.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}
_LONGEST_TEMP = 40  # characters; names of sockets below it must stay under 108
_KNOCK = 10.0  # seconds that a cluster's head has to answer; Ray itself would wait for minutes without a word


class EngineSettings(Settings):
    """How the work is spread."""

    workers: int = Field(default=0, ge=0)
    """Most workers at a time, each with a model; 0: one per GPU, or without a GPU one per `threads` processors."""
    min_workers: int = Field(default=0, ge=0)
    """Fewest; between the two the pool follows the queue. 0: as many as `workers`."""
    threads: int = Field(default=1, ge=1)
    """Processors of a worker."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs of a worker, for the network; 0.5 lets two share one."""
    address: str | None = None
    """Of a Ray cluster that this machine is part of, as `host:6379` or `auto`; None starts Ray on this machine and ends
    it afterwards."""
    files_per_task: int = Field(default=4, ge=1)
    """Recordings handed out together; what a worker that dies has finished of them is found again."""
    store_megabytes: int = Field(default=100, ge=80)
    """Ray's object store on this machine; only names of files lie in it."""


def run_on_ray(
    job: ArchiveJob, output: Path, inputs: Sequence[ArchiveInput], settings: EngineSettings | None = None
) -> Generator[ArchiveRow, None, None]:
    """Rows of the inputs as they get done, in any order; close the generator to stop.

    Workers that die are started again and their inputs handed out again.

    Args:
        job: the question.
        output: folder of the results; on a cluster, the same on all machines, as are the inputs' paths.
        inputs: what to do.
        settings: how.

    Raises:
        UsageError: if Ray is not installed, cannot be started or reached, or has no room for a worker.
        MarssepError: if workers cannot start, for what is not an input's fault.
    """
    settings = settings or EngineSettings()
    with _ray(settings) as ray:
        workers = settings.workers or _most_workers(ray.cluster_resources(), settings)
        for at in range(0, len(inputs), _WINDOW):
            yield from _window(ray, job, output, inputs[at : at + _WINDOW], settings=settings, workers=workers)


def _window(
    ray: Any,
    job: ArchiveJob,
    output: Path,
    inputs: Sequence[ArchiveInput],
    *,
    settings: EngineSettings,
    workers: int,
) -> Iterator[ArchiveRow]:
    rows = [{"input": json.dumps(asdict(each))} for each in inputs]
    tasks = -(-len(rows) // settings.files_per_task)
    workers = min(workers, tasks)
    made = ray.data.from_items(rows, override_num_blocks=tasks).map_batches(
        _Actor,
        fn_constructor_args=(asdict(job), str(output.resolve()), settings.threads, bool(settings.gpus)),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            min_size=min(settings.min_workers or workers, workers),
            max_size=workers,
            max_tasks_in_flight_per_actor=_IN_FLIGHT,
        ),
        num_cpus=settings.threads,
        num_gpus=settings.gpus or None,
    )
    try:
        for row in made.iter_rows():
            yield ArchiveRow.parse(row["row"])
    except ray.exceptions.RayError as error:
        raise MarssepError(f"The workers cannot go on: {_reason(error)}; what is done is kept, run again.") from None


class _Actor:
    """What Ray starts in every worker process."""

    def __init__(self, job: dict[str, Any], output: str, threads: int, gpu: bool) -> None:
        import torch

        torch.set_num_threads(threads)
        self.worker = ArchiveWorker(ArchiveJob(**job), Path(output))
        if gpu:  # Ray shows a worker only the GPU that it may use
            if not torch.cuda.is_available():
                raise UsageError(f"torch finds no GPU on {platform.node()}, which has one for Ray; leave out --gpus")
            self.worker.loaded.model.network.to("cuda")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"row": [self.worker.process(ArchiveInput(**json.loads(each))).line() for each in batch["input"]]}


@contextlib.contextmanager
def _ray(settings: EngineSettings) -> Iterator[Any]:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("Archives are separated on Ray, which is not installed: pip install 'marssep[ray]'.") from None
    temp = None
    if settings.address is None:
        temp = Path(tempfile.mkdtemp(prefix="marssep-ray-", dir=_short_temp()))
    else:
        check_address(settings.address)
    try:
        _start(ray, settings, temp)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is said once, by us
        yield ray
    finally:
        ray.shutdown()
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)


def check_address(address: str) -> None:
    """Refuse what Ray Data cannot use, and what nobody answers at.

    Args:
        address: of a cluster's head, as `EngineSettings.address`.

    Raises:
        UsageError: if so.
    """
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray Data does not work through Ray's client; run this on a machine of the cluster, "
            "with --address auto, or hand it in there with `ray job submit`."
        )
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address {address}: should be HOST:PORT of the cluster's head (mostly port 6379), or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: no cluster answers there ({error}); is its head running?") from None


def _start(ray: Any, settings: EngineSettings, temp: Path | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if temp is None:
            ray.init(address=settings.address, **quiet)
            return
        # One processor more than the workers need: Ray Data keeps one for itself.
        processors = (settings.workers or _most_workers({"CPU": os.cpu_count() or 1}, settings)) * settings.threads + 1
        for attempt in range(_STARTS):
            try:
                ray.init(
                    address="local",
                    num_cpus=processors,
                    object_store_memory=settings.store_megabytes << 20,
                    include_dashboard=False,
                    _temp_dir=str(temp),
                    **quiet,
                )
                return
            except Exception:  # a deadline of 30 s for the first answer cannot be set, and a busy machine misses it
                ray.shutdown()
                if attempt + 1 == _STARTS:
                    raise
    except Exception as error:  # Ray raises bare exceptions, connection errors and its own
        where = "on this machine" if temp is not None else f"at {settings.address}"
        raise UsageError(f"Ray {where} cannot be used ({_reason(error)}); try again or check --address.") from None


def _most_workers(resources: dict[str, Any], settings: EngineSettings) -> int:
    if settings.gpus:
        most = int(resources.get("GPU", 0) / settings.gpus)
        if not most:
            raise UsageError(f"gpus = {settings.gpus}: no machine has a GPU to spare; leave it out to use processors.")
        return most
    return max(1, int(resources.get("CPU", 1)) // settings.threads)


def _reason(error: Exception) -> str:
    """The last line: before it are the traces of other processes, and a name of ours says nothing to people."""
    last = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return re.sub(r"^marssep\.errors\.\w+: ", "", last).rstrip(".")


def _short_temp() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_TEMP else "/tmp"  # noqa: S108
