"""How fast a run goes and what it waits for, for the journal."""

import contextlib
import time
from collections.abc import Iterator
from typing import TypeVar

import torch

_T = TypeVar("_T")


class Meter:
    """Measures between two calls of `read`.

    Args:
        device: that the network is on; its utilisation is read where the driver's library (`nvidia-ml-py`) is there.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._waited, self._examples, self._since = 0.0, 0, time.perf_counter()

    def waiting(self, batches: Iterator[_T]) -> Iterator[_T]:
        """The same batches; the time until each is there counts as waiting for data."""
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            yield batch

    def count(self, examples: int) -> None:
        """So many mixtures went into a step, over all processes."""
        self._examples += examples

    def read(self) -> dict[str, float]:
        """Figures since the last call.

        `examples_per_second` of all processes; `data_wait`, the share of the time (0 to 1) this one waited for batches;
        on a GPU also `device_memory_gb` (peak) and `device_utilisation` (0 to 1, of the last moments).
        """
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        figures = {"examples_per_second": self._examples / elapsed, "data_wait": min(1.0, self._waited / elapsed)}
        self._waited, self._examples, self._since = 0.0, 0, now
        return figures | _device(self.device)


def _device(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    figures = {"device_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    # Not there if the driver's library is not installed or does not answer.
    with contextlib.suppress(ModuleNotFoundError, RuntimeError):
        figures["device_utilisation"] = torch.cuda.utilization(device) / 100.0
    return figures
