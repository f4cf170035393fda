"""Models of the Hugging Face Hub: fetched when asked for, found on this machine afterwards."""

import re
from pathlib import Path
from types import ModuleType

from marssep.errors import ModelError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["config.json", "card.json", "model.safetensors", "README.md"]


def is_hub_id(name: str) -> bool:
    """Whether a name has the form OWNER/NAME."""
    return _ID.fullmatch(name) is not None


def hub_folder(name: str) -> Path:
    """Folder of a model that was fetched before.

    Raises:
        ModelError: if it was not, or huggingface-hub is not installed.
    """
    hub = _library(name)
    try:
        return Path(hub.snapshot_download(name, local_files_only=True, allow_patterns=_FILES))
    except (OSError, ValueError):  # the library's LocalEntryNotFoundError is both
        raise ModelError(
            f"{name}: no such folder and no fetched Hub model; check the path or run 'marssep models fetch {name}'."
        ) from None


def fetch_from_hub(name: str, *, revision: str | None = None) -> Path:
    """Download a model's config, card and safetensors into the Hub's cache; never anything that runs code.

    Raises:
        ModelError: if the Hub cannot be reached or has no such model.
    """
    hub = _library(name)
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name}: could not be fetched from the Hub ({first}); check the name and the network."
        ) from None


def _library(name: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(f"{name}: Hub models need huggingface-hub; run 'pip install marssep[hub]'.") from None
    return huggingface_hub
