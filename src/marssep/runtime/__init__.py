"""An exported model without torch: numpy and scipy make the spectrograms, onnxruntime runs the networks."""

from typing import TYPE_CHECKING, Any

from marssep.runtime.folder import RuntimeConfig

if TYPE_CHECKING:
    from marssep.runtime.results import RuntimeFiles, RuntimeSeparation
    from marssep.runtime.runtime import Asked, Runtime, RuntimeQuery

__all__ = ["Asked", "Runtime", "RuntimeConfig", "RuntimeFiles", "RuntimeQuery", "RuntimeSeparation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'marssep.runtime' has no attribute '{name}'")
    from marssep.runtime import runtime  # brings scipy, and what both engines share is wanted without it

    return getattr(runtime, name)
