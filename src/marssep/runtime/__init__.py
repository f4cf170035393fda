"""An exported model without torch: numpy and scipy make the spectrograms, onnxruntime runs the networks."""

from marssep.runtime.folder import RuntimeConfig
from marssep.runtime.runtime import Runtime, RuntimeFiles, RuntimeSeparation

__all__ = ["Runtime", "RuntimeConfig", "RuntimeFiles", "RuntimeSeparation"]
