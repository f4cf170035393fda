"""A tiny seeded model still gives the sound it gave when its output was written down.

After a change that is meant to alter it: `MARSSEP_WRITE_GOLDEN=1 pytest tests/golden`, and say why in the commit.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from marssep.model import ARCHITECTURES, LoadedModel, ModelConfig, build_network
from marssep.query.encoder import load_encoder
from marssep.separate import Separator
from marssep.spectral import SpectralSettings

FOLDER = Path(__file__).parent
NETWORKS = {
    "film_unet": {"channels": [8, 12, 16], "query_channels": 8},
    "unet": {"width": 4, "n_maps": 4, "levels": 3},
    "ensemble": {
        "members": [{"channels": [8, 12, 16], "query_channels": 8}, {"channels": [8, 12], "query_channels": 4}]
    },
}
RATE = 11025


def _seeded(architecture: str) -> LoadedModel:
    """Weights from numpy's generator: torch does not promise the same random numbers between versions."""
    config = ModelConfig(
        architecture=architecture,
        network=NETWORKS[architecture],
        spectral=SpectralSettings(n_bands=32, max_frequency=5000.0),
        encoder="tiny",
        query_dimension=16,
        chunk_steps=32,
    )
    network = build_network(config).eval()
    rng = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 1.0 / max(1.0, parameter[0].numel() ** 0.5) if parameter.dim() > 1 else 0.1
            values = rng.standard_normal(tuple(parameter.shape)) * spread
            parameter.copy_(torch.from_numpy(values.astype(np.float32)) + (parameter.dim() == 1))
    return LoadedModel(network.requires_grad_(False), config, {}, "seeded")


def _recording() -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(1).standard_normal(len(time))
    left = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * noise
    right = 0.2 * np.sin(2 * np.pi * 1200 * time * (1 + 0.2 * time)) + 0.05 * noise
    return np.stack([left, right]).astype(np.float32)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_output_is_what_it_was(architecture: str) -> None:
    separator = Separator(_seeded(architecture), load_encoder("tiny"))
    made = {}
    for name, adapt in (("", False), ("adapted_", True)):
        result = separator.separate((_recording(), RATE), text="a rising whistle", gate=False, adapt=adapt)
        made |= {f"{name}target": result.target, f"{name}presence": np.float32([result.presence])}
    path = FOLDER / f"{architecture}.safetensors"
    if os.environ.get("MARSSEP_WRITE_GOLDEN"):
        save_file(made, path)
    golden = load_file(path)
    assert 0.02 < np.abs(golden["target"]).max() < 0.5  # the mask is neither open nor shut
    assert set(golden) == set(made)
    for name, found in made.items():
        np.testing.assert_allclose(found, golden[name], atol=1e-4 if "presence" in name else 2e-5, rtol=0, err_msg=name)
