"""Ask for a sound by words, by example, by picture, or by any mix of them, and get it out of any recording."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marssep.audio import Audio, read_audio, write_audio
    from marssep.errors import MarssepError
    from marssep.query import Query
    from marssep.separate import Separation, Separator

try:
    __version__ = version("marssep")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "0+unknown"

# Looked up on first use, so that `import marssep` and `marssep --help` do not wait for torch.
_HOMES = {
    "Audio": "marssep.audio",
    "MarssepError": "marssep.errors",
    "Query": "marssep.query",
    "Separation": "marssep.separate",
    "Separator": "marssep.separate",
    "read_audio": "marssep.audio",
    "write_audio": "marssep.audio",
}

__all__ = ["Audio", "MarssepError", "Query", "Separation", "Separator", "__version__", "read_audio", "write_audio"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'marssep' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
