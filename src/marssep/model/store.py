"""Build a network from settings; save and load models as safetensors beside a JSON config, never as pickles."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from marssep.errors import ModelError
from marssep.model.ensemble import Ensemble, EnsembleSettings
from marssep.model.film_unet import FilmUNet, FilmUNetSettings
from marssep.model.hub import hub_folder, is_hub_id
from marssep.model.network import MaskNetwork
from marssep.model.unet import UNet, UNetSettings
from marssep.runtime.hearing import EvidenceWeights
from marssep.settings import Settings
from marssep.spectral import SpectralSettings, Spectrogram

SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the models that come with the package."""

ARCHITECTURES: Mapping[str, tuple[type[Settings], Callable[..., MaskNetwork]]] = {
    "film_unet": (FilmUNetSettings, FilmUNet),
    "unet": (UNetSettings, UNet),
    "ensemble": (EnsembleSettings, Ensemble),
}


class ModelConfig(Settings):
    """All that is needed to rebuild a network and use it as it was trained."""

    architecture: Literal["film_unet", "unet", "ensemble"] = "film_unet"
    """Key of `ARCHITECTURES`."""
    network: dict[str, Any] = {}
    """Settings of the architecture; its defaults where nothing is said."""
    spectral: SpectralSettings = SpectralSettings()
    """From waveform to grid and back."""
    encoder: str = "open"
    """Key of the query encoders the network was trained with."""
    query_dimension: int = 512
    """Length of a query embedding."""
    chunk_steps: int = 128
    """Grid columns the network was trained on; longer recordings are cut into overlapping chunks of this length."""
    reading_bias: float = -1.0
    """Log-odds that what a picture may show is in the mixture: constant; this and the next two were chosen on
    validation (decision 0008)."""
    reading_network: float = 1.0
    """Factor of the network's presence logit in them."""
    reading_match: float = 4.0
    """Factor of the cosine with what the query encoder hears in the mixture; 0 saves the listening."""
    presence_bias: float = 0.0
    """Constant of the logistic regression behind the presence probability; fitted on validation, as the next four."""
    presence_network: float = 1.0
    """Weight of the network's presence logit in it."""
    presence_match: float = 0.0
    """Weight of the cosine between query and target, heard by the query encoder; 0 saves the listening."""
    presence_spread: float = 0.0
    """Weight of how much that cosine varies over the patches of the target."""
    presence_rival: float = 0.0
    """Weight of the largest cosine of these patches with the name of another sound."""
    presence_rivals: tuple[str, ...] = ()
    """Names of sounds that a target may be instead of the one that was asked for."""
    presence_threshold: float = 0.0
    """Presence (a probability) below which the sound is taken to be absent; chosen on validation."""
    quiet_threshold: float | None = None
    """Presence below which the gate turns a quiet target down, which misleads nobody; None: as a loud one."""
    quiet_db: float = 15.0
    """A target is quiet if it lies this far below the recording wherever it is loudest."""
    second_bias: float = 0.0
    """Constant of the logistic regression behind the confidence of every second; fitted on validation, as the next
    three."""
    second_network: float = 1.0
    """Weight of the network's presence logit around that second in it."""
    second_share: float = 0.0
    """Weight of the target's level in that second relative to the recording, per dB."""
    second_match: float = 0.0
    """Weight of the cosine between query and target, of the whole recording."""
    absent_attenuation_db: float = 40.0
    """How far the target of an absent sound is turned down."""

    @property
    def evidence_weights(self) -> EvidenceWeights:
        """What makes presence of what the network says and the query encoder hears."""
        names = (each.name for each in fields(EvidenceWeights))
        return EvidenceWeights(*(getattr(self, f"presence_{name}") for name in names))


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network ready to use.

    Attributes:
        network: in evaluation mode.
        config: as saved beside the weights.
        card: free-form facts (data, licences, training, results) for people.
        sha256: of the weights file.
    """

    network: MaskNetwork
    config: ModelConfig
    card: dict[str, Any]
    sha256: str

    @property
    def spectral(self) -> Spectrogram:
        """The model's way from waveform to grid."""
        return Spectrogram(self.config.spectral)

    @property
    def chunk_seconds(self) -> float:
        """Length of what the network sees at once, seconds."""
        return self.config.chunk_steps * self.config.spectral.step_seconds


def build_network(config: ModelConfig) -> MaskNetwork:
    """A freshly initialised network.

    Raises:
        SettingsError: if `config.network` has an unknown key or an impossible size.
    """
    settings_class, architecture = ARCHITECTURES[config.architecture]
    settings = settings_class.parse(config.network, source=f"network settings of '{config.architecture}'")
    return architecture(settings, spectral=config.spectral, query_dimension=config.query_dimension)


def save_model(
    folder: str | os.PathLike[str],
    network: nn.Module,
    config: ModelConfig,
    *,
    card: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write `model.safetensors`, `config.json` and `card.json` into `folder`; atomic file by file, weights first.

    Args:
        folder: made if it is not there.
        network: its weights are written.
        config: says how to build it again.
        card: facts for people.
        half: matrices and filters in half precision, which is half the file; norms and biases stay as they are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: in_half(tensor) for name, tensor in tensors.items()}
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial)
    os.replace(partial, folder / "model.safetensors")
    save_facts(folder, config, card=card)


def save_facts(folder: Path, config: ModelConfig, *, card: Mapping[str, Any]) -> None:
    """Write a model's `config.json` and `card.json`; its weights stay untouched."""
    _write_json(folder / "config.json", config.model_dump(mode="json"))
    _write_json(folder / "card.json", dict(card))


def load_model(name_or_path: str | os.PathLike[str] = "default") -> LoadedModel:
    """Load a shipped model by name, a folder with `config.json` and `model.safetensors`, or a fetched Hub model.

    Nothing is downloaded: `OWNER/NAME` is looked for among what `marssep models fetch OWNER/NAME` has put on this
    machine.

    Raises:
        ModelError: if there is no such model, or it is truncated, a pickle, or does not fit its config.
    """
    folder = _find(name_or_path)
    config = ModelConfig.parse(_read_json(folder / "config.json"), source=str(folder / "config.json"))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{weights}: no such file; a model is a folder with config.json and model.safetensors.")
    try:
        tensors = load_file(weights)
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelError(
            f"{weights}: not a readable safetensors file ({error}); it may be truncated, fetch or copy it again."
        ) from None
    with torch.random.fork_rng(devices=[]):  # the device `meta` would save the random weights but import sympy
        network = build_network(config)
    try:
        network.load_state_dict({name: _single(tensor) for name, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(f"{weights}: the weights do not fit {folder / 'config.json'} ({first}).") from None
    card_file = folder / "card.json"
    card = _read_json(card_file) if card_file.is_file() else {}
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return LoadedModel(network.eval().requires_grad_(False), config, card, sha256)


def in_half(tensor: torch.Tensor) -> torch.Tensor:
    """A matrix or filters in half precision; norms and biases, which are few, as they are."""
    return tensor.half() if tensor.dim() > 1 else tensor


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        if path.suffix in {".pt", ".pth", ".ckpt", ".bin", ".pkl"} or path.read_bytes()[:2] in (b"\x80\x02", b"PK"):
            raise ModelError(
                f"{path}: this is a pickle, which can run code when opened; offer a folder with config.json and "
                "model.safetensors instead."
            )
        path = path.parent
    if path.is_dir():
        return path
    if (SHIPPED / str(name_or_path) / "config.json").is_file():
        return SHIPPED / str(name_or_path)
    if is_hub_id(str(name_or_path)):
        return hub_folder(str(name_or_path))
    names = sorted(folder.parent.name for folder in SHIPPED.glob("*/config.json"))
    raise ModelError(f"{name_or_path}: no such model; it is neither a folder nor one of the shipped {names}.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model is a folder with config.json and model.safetensors.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not a JSON file ({error}); fetch or copy the model again.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds no JSON object; fetch or copy the model again.")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.move(partial, path)
