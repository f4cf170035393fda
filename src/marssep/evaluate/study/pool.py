"""Training batches of the study, made once: every variant of a seed learns from the same mixtures in the same order."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import Dataset

from marssep.train.batches import Batch, TrainingBatches
from marssep.train.losses import GridTargets

_TARGETS = [field.name for field in fields(GridTargets)]


class BatchPool(Dataset[Batch]):
    """Batches on disk, handed out in an order that the seed decides.

    Args:
        folder: of the pool.
        size: batches in it.
        seed: of the order.
    """

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        self.folder = folder
        self.order = np.random.default_rng((seed, 271)).permutation(size)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        return read_batch(self.folder / f"{self.order[index % len(self.order)]:04d}.safetensors")


def fill_pool(folder: Path, batches: TrainingBatches, size: int) -> None:
    """Make the batches that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(size):
        path = folder / f"{index:04d}.safetensors"
        if not path.exists():
            _write(path, batches[index])


def read_batch(path: Path) -> Batch:
    """One batch of a pool."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
        labels = tuple(tuple(row.split("|")) for row in file.metadata()["labels"].split("\n"))
    return Batch(tensors["query"], GridTargets(**{name: tensors[name] for name in _TARGETS}), labels)


def _write(path: Path, batch: Batch) -> None:
    tensors: dict[str, torch.Tensor] = {"query": batch.query}
    tensors |= {name: getattr(batch.targets, name).contiguous() for name in _TARGETS}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"labels": "\n".join("|".join(row) for row in batch.labels)})
    partial.replace(path)
