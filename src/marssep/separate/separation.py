"""What a separation returns, and how it is saved."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from marssep.audio import quantise, slug, write_audio
from marssep.errors import OutputError
from marssep.spectral import Spectrogram

# Formats with fewer bits than 16 are widened, lossy ones decode to real numbers; both lists are soundfile's names.
_SUBTYPES = {"PCM_S8": "PCM_16", "PCM_U8": "PCM_16", "ULAW": "PCM_16", "ALAW": "PCM_16"}
_KEPT = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result comes from, for the sidecar.

    Attributes:
        input: name of the file, or `waveform`.
        input_sha256: of the file's bytes, or of the samples given.
        subtype: sample format of the input file.
        query: what was asked for, in words: `text`, `audio`, `image`, `weights`, `negative`.
        model: name or path.
        model_sha256: of the weights.
        presence_threshold: presence below which a sound counts as absent.
        attenuated_db: by how much the target was turned down because the sound is absent; 0 if it was not.
        versions: of marssep and torch.
    """

    input: str
    input_sha256: str
    subtype: str
    query: dict[str, Any]
    model: str
    model_sha256: str
    presence_threshold: float
    attenuated_db: float
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """Paths that `Separation.save` wrote."""

    target: Path
    residual: Path
    sidecar: Path
    picture: Path | None


@dataclass(frozen=True)
class Separation:
    """A sound that was asked for and the rest of the recording.

    Attributes:
        target: the sound, at the input's rate, channels and length.
        residual: everything else; target + residual is the input.
        grid_mask: mask on the log-frequency grid, in [0, 1], before any attenuation for absence.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
        sample_rate: Hz.
        spectral: the model's way between waveform and grid.
        provenance: input, query and model.
    """

    target: Float32[np.ndarray, "c n"]
    residual: Float32[np.ndarray, "c n"]
    grid_mask: Float32[np.ndarray, "bands steps"]
    presence: float
    present: bool
    sample_rate: int
    spectral: Spectrogram
    provenance: Provenance

    @property
    def mixture(self) -> Float32[np.ndarray, "c n"]:
        """The input."""
        return self.target + self.residual

    @property
    def mask(self) -> Float32[np.ndarray, "f t"]:
        """The mask on the bins of the STFT at the recording's own rate."""
        n_frames = self.spectral.n_frames(self.target.shape[-1], self.sample_rate)
        made: np.ndarray = self.spectral.from_grid(torch.from_numpy(self.grid_mask), self.sample_rate, n_frames).numpy()
        return made

    def save(self, folder: str | os.PathLike[str], *, name: str | None = None, picture: bool = False) -> SavedFiles:
        """Write target and residual as WAV, a JSON sidecar and, if asked, a picture.

        The sample format follows the input's where WAV has it; samples beyond full scale make it 32-bit float. Integer
        files still add up to the input exactly, because the target is rounded before the residual is taken.

        Args:
            folder: made if missing.
            name: beginning of the file names; by default that of the input and the query.
            picture: draw mixture, target, residual and mask too (`NAME.png`).

        Raises:
            OutputError: if the folder cannot be made or written to.
        """
        folder = Path(folder)
        _make_folder(folder)
        name = name or self.default_name
        files = SavedFiles(
            target=folder / f"{name}.target.wav",
            residual=folder / f"{name}.residual.wav",
            sidecar=folder / f"{name}.json",
            picture=folder / f"{name}.png" if picture else None,
        )
        subtype = self._wav_subtype()
        mixture = self.mixture
        target = quantise(self.target, subtype=subtype)
        write_audio(files.target, target, sample_rate=self.sample_rate, subtype=subtype)
        write_audio(files.residual, mixture - target, sample_rate=self.sample_rate, subtype=subtype)
        if files.picture is not None:
            from marssep.separate.picture import draw_separation

            draw_separation(self, files.picture)
        _write_text(files.sidecar, json.dumps(self.sidecar(files), indent=1, ensure_ascii=False) + "\n")
        return files

    def sidecar(self, files: SavedFiles) -> dict[str, Any]:
        """What `save` writes as JSON."""
        channels, length = self.target.shape
        return {
            "target": files.target.name,
            "residual": files.residual.name,
            "picture": files.picture.name if files.picture else None,
            "presence": round(self.presence, 6),
            "present": self.present,
            "sample_rate": self.sample_rate,
            "channels": channels,
            "length": length,
            "duration": length / self.sample_rate,
        } | asdict(self.provenance)

    @property
    def default_name(self) -> str:
        """Input and query as the beginning of a file name, e.g. `talk.dog-barking`."""
        query = self.provenance.query
        asked = [query[kind] for kind in ("text", "audio", "image") if query.get(kind)]
        if query.get("negative"):
            asked.append(f"not {query['negative']}")
        return f"{Path(self.provenance.input).stem}.{slug(' '.join(Path(word).stem for word in asked))}"

    def _wav_subtype(self) -> str:
        subtype = _SUBTYPES.get(self.provenance.subtype, self.provenance.subtype)
        peak = max(float(np.abs(self.target).max()), float(np.abs(self.residual).max()))
        return subtype if subtype in _KEPT and (peak <= 1.0 or subtype in {"FLOAT", "DOUBLE"}) else "FLOAT"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this output folder ({error.strerror}); choose another.") from None


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None
