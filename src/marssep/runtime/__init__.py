"""An exported model without torch: numpy and scipy make the spectrograms, onnxruntime runs the networks."""

from typing import TYPE_CHECKING, Any

from marssep.runtime.folder import RuntimeConfig

if TYPE_CHECKING:
    from marssep.runtime.runtime import Runtime, RuntimeFiles, RuntimeSeparation

__all__ = ["Runtime", "RuntimeConfig", "RuntimeFiles", "RuntimeSeparation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'marssep.runtime' has no attribute '{name}'")
    from marssep.runtime import runtime  # brings scipy, and what both engines share is wanted without it

    return getattr(runtime, name)
