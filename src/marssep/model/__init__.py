"""Mixture power on the grid and query embeddings in, mask logits and presence out."""

from marssep.model.joining import average_models, join_models
from marssep.model.network import MaskNetwork, MaskOutput, normalise
from marssep.model.store import (
    ARCHITECTURES,
    LoadedModel,
    ModelConfig,
    build_network,
    in_half,
    load_model,
    save_facts,
    save_model,
)

__all__ = [
    "ARCHITECTURES",
    "LoadedModel",
    "MaskNetwork",
    "MaskOutput",
    "ModelConfig",
    "average_models",
    "build_network",
    "in_half",
    "join_models",
    "load_model",
    "normalise",
    "save_facts",
    "save_model",
]
