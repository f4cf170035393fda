"""Checkpoints with the full state of a run as safetensors and JSON, replaced atomically; runs resume exactly."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from marssep.errors import ModelError


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        seconds: time spent training, over all sessions.
        best: best validation figure so far, None before the first.
        history: figures of every validation.
        stopped: why the program ended itself, None if it did not.
        extra: what a program must remember beside its weights, by name.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str | None = None
    extra: dict[str, float] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, *, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write `folder` anew; an interrupted write leaves the old one in place."""
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    for name, module in (("network", network), ("average", average)):
        tensors |= {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value).cpu() for key, value in state.items()}
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(
        {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()},
        partial / "state.safetensors",
    )
    (partial / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, *, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> Progress:
    """Bring everything back to where `save_checkpoint` left it.

    Raises:
        ModelError: if there is no checkpoint or it does not fit the run's settings.
    """
    if not folder.is_dir() and folder.with_name(folder.name + ".old").is_dir():
        folder = folder.with_name(folder.name + ".old")  # the write was interrupted between two renames
    try:
        tensors = load_file(folder / "state.safetensors")
        progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{folder}: no readable checkpoint to resume from ({error}); start without --resume."
        ) from None
    try:
        network.load_state_dict(_under("network", tensors))
        average.load_state_dict(_under("average", tensors))
    except RuntimeError as error:
        raise ModelError(
            f"{folder}: the checkpoint was made with other settings ({str(error).splitlines()[-1].strip()})."
        ) from None
    state: dict[int, dict[str, Any]] = {}
    for key, value in _under("optimiser", tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    return progress


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
