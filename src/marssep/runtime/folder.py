"""The folder of an exported model: one JSON file that says everything, ONNX graphs and stored queries beside it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from marssep.errors import ModelError
from marssep.runtime.hearing import EvidenceWeights
from marssep.settings import Settings
from marssep.spectral.settings import SpectralSettings

CONFIG_FILE = "runtime.json"
FORMAT = 4
"""Raised when the meaning of a folder changes; another number is refused."""


class PresenceSettings(Settings):
    """The logistic regression behind the presence probability, as in the model's config."""

    bias: float
    """Constant."""
    network: float
    """Weight of the network's presence logit."""
    match: float
    """Weight of the cosine between the query and the target as the encoder hears it."""
    spread: float
    """Weight of how much that cosine varies over the patches of the target."""
    rival: float
    """Weight of the largest cosine of these patches with the name of another sound."""
    threshold: float
    """Presence below which a sound counts as absent, and a loud target is turned down."""
    quiet_threshold: float
    """Presence below which a quiet target is turned down."""
    quiet_db: float
    """A target is quiet if it lies this far below the recording wherever it is loudest."""
    absent_attenuation_db: float
    """How far the target of an absent sound is turned down."""

    @property
    def weights(self) -> EvidenceWeights:
        """What makes presence of evidence."""
        return EvidenceWeights(self.bias, self.network, self.match, self.spread, self.rival)


class ReadingSettings(Settings):
    """How the mixture decides between the readings of a picture, as in the model's config (decision 0008)."""

    kept: int
    """Likeliest readings of a picture that the mixture decides between."""
    bias: float
    """Log-odds that a reading is in the mixture: constant."""
    network: float
    """Factor of the network's presence logit in them."""
    match: float
    """Factor of the cosine with what the encoder hears in the mixture; 0: it does not listen."""


class ExportedFile(Settings):
    """A file of the folder."""

    name: str
    """Its name."""
    sha256: str
    """Of its bytes."""


class RuntimeConfig(Settings):
    """What `runtime.json` holds: all numbers that a runtime in any language needs beside the ONNX graphs."""

    format: int = FORMAT
    """Of the folder."""
    model: str
    """Name of the model."""
    model_sha256: str
    """Of the weights that were exported."""
    spectral: SpectralSettings
    """From waveform to grid and back."""
    band_frequencies: tuple[float, ...]
    """Centre of every grid row in hertz, lowest first; the interpolation between rows and bins follows from them."""
    chunk_steps: int
    """Grid columns that the network takes at once."""
    overlap: float
    """Share of a chunk that the next one sees too."""
    quiet: float
    """Chunks whose power is less than this share of the loudest have no say in presence."""
    others: float
    """Odds that a negative leaves to sounds that neither query names."""
    windows: int
    """Loudest stretches of the target that are listened to."""
    loud: float
    """Patches of a stretch whose power is less than this share of the loudest one's say nothing."""
    kin: float
    """Names of sounds whose cosine with the query is this or more are no rivals."""
    query_dimension: int
    """Length of a query embedding."""
    encoder: str
    """Name of the query encoder."""
    presence: PresenceSettings
    """What the presence probability is made of."""
    reading: ReadingSettings
    """What a picture means in a mixture."""
    files: dict[str, ExportedFile]
    """By role: `network`; `queries`; `audio_trunk`, `audio_head` (presence and queries by example); `rivals` (names of
    sounds that a target may be instead); `text`, `tokenizer` (any words); `image`, `image2`, `image_head`,
    `image_places` (any picture)."""
    queries: tuple[str, ...] = ()
    """Names of the stored queries."""
    versions: dict[str, str] = {}
    """Of the libraries that exported it."""


def read_config(folder: Path) -> RuntimeConfig:
    """Read `runtime.json`.

    Raises:
        ModelError: if the folder or the file is missing, damaged or of another format.
    """
    path = folder / CONFIG_FILE
    again = "export the model again with 'marssep export'"
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; give a folder that 'marssep export' made.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); {again}.") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ModelError(f"{path}: not of format {FORMAT}; {again}.")
    return RuntimeConfig.parse(values, source=str(path))


def checked_file(folder: Path, config: RuntimeConfig, role: str) -> Path:
    """A file of the folder, if it is what was exported.

    Raises:
        ModelError: if it is missing or was changed.
    """
    stated = config.files.get(role)
    if stated is None:
        raise ModelError(f"{folder}: exported without '{role}'; run 'marssep export' again and ask for it.")
    path = folder / Path(stated.name).name
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); export the model again.") from None
    if sha256 != stated.sha256:
        raise ModelError(f"{path}: not the file that was exported (its sha256 differs); export the model again.")
    return path
