"""`marssep models info`: what a model is, what it was trained on and how well it does."""

import json
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from marssep.model import MaskNetwork, ModelConfig


def info(
    model: str | None = None,
    *,
    preset: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
) -> None:
    """Print a model's size, rates, classes, licences and results.

    Args:
        model: A shipped model's name or a model folder; by default the shipped default.
        preset: Describe the untrained model of a training preset instead.
        as_json: Print JSON.
    """
    from marssep.errors import UsageError
    from marssep.model import load_model

    if preset is not None:
        if model is not None:
            raise UsageError("Give a model or --preset, not both.")
        facts = _describe_preset(preset)
    else:
        name = model or "default"
        loaded = load_model(name)
        facts = loaded.card | {"name": name, "sha256": loaded.sha256} | describe(loaded.network, loaded.config)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        for line in _lines(facts):
            print(line)


def describe(network: "MaskNetwork", config: "ModelConfig") -> dict[str, Any]:
    """The facts that follow from a network and its config."""
    spectral = config.spectral
    return {
        "architecture": config.architecture,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sample_rates": "any; the output has the input's",
        "heard_up_to_hz": spectral.max_frequency,
        "grid": f"{spectral.n_bands} bands, a column every {1000 * spectral.step_seconds:g} ms",
        "chunk_seconds": round(config.chunk_steps * spectral.step_seconds, 3),
        "encoder": config.encoder,
        "presence_threshold": config.presence_threshold,
        "absent_attenuation_db": config.absent_attenuation_db,
    }


def _describe_preset(preset: str) -> dict[str, Any]:
    import torch

    from marssep.model import build_network
    from marssep.presets import load_preset

    config = load_preset(preset).model
    with torch.device("meta"):
        network = build_network(config)
    return {"preset": preset} | describe(network, config)


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{key:<22} {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{key:<22} {value:,}" if isinstance(value, int) else f"{indent}{key:<22} {value}")
    return lines
