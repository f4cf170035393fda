"""Other people's checkpoints (`.pt`, `.pth`, `.ckpt`, `.bin`) to safetensors: tensors come over, nothing else does."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marssep.errors import ModelError, OutputError

_KEPT = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "LICENSE", "README.md")
_HOLDERS = ("state_dict", "model_state_dict", "model", "module")  # where training programs put the weights
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


@dataclass(frozen=True)
class Converted:
    """What came over.

    Attributes:
        folder: with `model.safetensors`, `conversion.json` and, from a folder, the JSON files of the model.
        tensors: how many.
        left_out: names of what else the checkpoint held.
    """

    folder: Path
    tensors: int
    left_out: tuple[str, ...]


def convert(source: Path, output: Path) -> Converted:
    """Make safetensors of a checkpoint, or of the one in a model's folder.

    Args:
        source: checkpoint, or a folder with exactly one and the model's JSON files, which are copied.
        output: folder that is made; it appears when everything is in it.

    Raises:
        ModelError: no checkpoint, several, damaged, or one that holds objects of classes that are not plain data.
        OutputError: the output exists or cannot be written.
    """
    checkpoint = _find(source)
    state, left_out = _tensors(_load(checkpoint), checkpoint)
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another folder.")
    partial = output.with_name(output.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(state, checkpoint, partial)
        for name in _KEPT if source.is_dir() else ():
            if (source / name).is_file():
                shutil.copyfile(source / name, partial / name)
        os.replace(partial, output)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another folder.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Converted(output, len(state), left_out)


def _find(source: Path) -> Path:
    if source.is_file():
        return source
    found = [path for ending in ("bin", "pt", "pth", "ckpt") for path in sorted(source.glob(f"*.{ending}"))]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ModelError(f"{source}: needs one checkpoint (*.bin, *.pt, *.pth, *.ckpt), has {names}; name the file.")
    return found[0]


def _load(checkpoint: Path) -> Any:
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        stated = str(error)
        refused = next((line.strip() for line in stated.splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
        reason = refused.removeprefix("Please use ") or "it is no checkpoint of tensors"
        raise ModelError(f"{checkpoint}: refused, because loading it could run code ({reason[:160]}).") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{checkpoint}: not a readable checkpoint ({cause}); get it again.") from None


def _tensors(loaded: Any, checkpoint: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    left_out: list[str] = []
    while isinstance(loaded, Mapping) and (holder := next((key for key in _HOLDERS if _holds(loaded, key)), None)):
        left_out += [str(key) for key in loaded if key != holder]
        loaded = loaded[holder]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{checkpoint}: holds a {type(loaded).__name__}, not tensors by name; nothing to convert.")
    made: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if isinstance(value, Tensor):
            name = str(key)
            for prefix in _PREFIXES:
                name = name.removeprefix(prefix)
            made[name] = value.detach().contiguous().clone()  # safetensors wants no shared memory
        else:
            left_out.append(str(key))
    if not made:
        raise ModelError(f"{checkpoint}: holds no tensors by name; nothing to convert.")
    return made, tuple(left_out)


def _holds(loaded: Mapping[Any, Any], key: str) -> bool:
    return isinstance(loaded.get(key), Mapping) and not any(isinstance(value, Tensor) for value in loaded.values())


def _write(state: Mapping[str, Tensor], checkpoint: Path, folder: Path) -> None:
    from safetensors.torch import save

    (folder / "model.safetensors").write_bytes(save(dict(state), metadata={"format": "pt"}))
    record = {
        "from": checkpoint.name,
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "tensors": len(state),
    }
    (folder / "conversion.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
