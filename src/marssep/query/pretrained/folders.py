"""Folders with other people's models: found on this machine, described by JSON, weighed by safetensors alone."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marssep.errors import ModelError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_READ = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "*.safetensors")
_BLOCK = 1 << 24


def model_folder(place: str) -> Path:
    """A local folder, or that of a model of the Hub (OWNER/NAME) which is already in its cache; nothing is downloaded.

    Raises:
        ModelError: there is neither, the folder has no safetensors, or it wants code of its own to be run.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _cached(place)
    if not any(folder.glob("*.safetensors")):
        pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
        if pickles:
            raise ModelError(
                f"{folder / pickles[0]}: a pickle can run code, so it is not loaded; make safetensors of it with "
                f"'marssep models convert {folder} OUTPUT'."
            )
        raise ModelError(f"{folder}: has no *.safetensors; name the folder of a model.")
    if "auto_map" in read_config(folder):
        raise ModelError(f"{folder / 'config.json'}: wants code of its own to be run (auto_map); that is refused.")
    return folder


def model_folder_of_weights(place: str) -> Path:
    """A local folder with `model.safetensors` alone, as `marssep models convert` makes it of a checkpoint.

    Raises:
        ModelError: there is none.
    """
    folder = Path(place).expanduser()
    if not (folder / "model.safetensors").is_file():
        raise ModelError(
            f"{folder}: has no model.safetensors; make it with 'marssep models convert CHECKPOINT -o {folder}'."
        )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder.

    Raises:
        ModelError: missing, or not a JSON object.
    """
    found = read_json(folder / "config.json")
    if found is None:
        raise ModelError(f"{folder / 'config.json'}: missing; a model's folder has weights and config.json.")
    return found


def read_processor(folder: Path, part: str) -> dict[str, Any]:
    """How sounds or pictures are prepared, from `preprocessor_config.json` or the newer `processor_config.json`.

    Args:
        folder: of the model.
        part: `feature_extractor` or `image_processor`, the name within the newer file.

    Raises:
        ModelError: neither file says it.
    """
    old, new = read_json(folder / "preprocessor_config.json"), read_json(folder / "processor_config.json")
    if new is not None and isinstance(new.get(part), dict):
        return dict(new[part])
    if old is not None:
        return old
    raise ModelError(f"{folder}: has no preprocessor_config.json, which says how its input is prepared; copy it there.")


def digest(folder: Path) -> str:
    """Changes when weights, words or preparation change; the same wherever the folder lies."""
    made = hashlib.sha256()
    for path in _files(folder):
        made.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                made.update(block)
    return made.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _READ:
        yield from sorted(folder.glob(pattern))


def _cached(place: str) -> Path:
    if not _ID.fullmatch(place):
        raise ModelError(f"{place}: no such folder; name a model's folder or its name OWNER/NAME on the Hub.")
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(f"{place}: Hub models need huggingface-hub; run 'pip install marssep[hub]'.") from None
    try:
        return Path(huggingface_hub.snapshot_download(place, local_files_only=True))
    except (OSError, ValueError):  # the library's LocalEntryNotFoundError is both
        raise ModelError(
            f"{place}: no such folder, and not in the Hub's cache; get it with 'hf download {place}'."
        ) from None


def read_json(path: Path, *, of: type = dict) -> Any:
    """What a file holds; None if there is none.

    Args:
        path: of the file.
        of: what it must hold.

    Raises:
        ModelError: not JSON, or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}); get the model again.") from None
    if not isinstance(found, of):
        kind = "object" if of is dict else "list"
        raise ModelError(f"{path}: not a JSON {kind}; get the model again.")
    return found
