"""What a separation in memory returns, and how it is saved."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from marssep.audio import make_folder, quantise
from marssep.separate.bundle import Bundle, Layout, natural_subtype, unlimited_subtype
from marssep.separate.naming import query_slug
from marssep.separate.provenance import Provenance, SavedFiles, sidecar_row, write_sidecar
from marssep.separate.sources import ArraySource
from marssep.spectral import Spectrogram

if TYPE_CHECKING:
    from marssep.separate.refining import RefineSettings
    from marssep.separate.rewarded import Reward

_ON_GRID = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "ULAW", "ALAW"}


@dataclass(frozen=True)
class Separation:
    """A sound that was asked for and the rest of the recording.

    Attributes:
        target: the sound, at the input's rate, channels and length.
        residual: everything else; target + residual is the input.
        grid_mask: mask on the log-frequency grid, in [0, 1], before any attenuation for absence. Where channels differ
            it steers a filter between them (`marssep.spectral.directions`), so target / mixture is not the mask.
        presence: probability that the sound is in the recording.
        present: whether presence reached the model's threshold.
        confidence: probability that the sound can be heard, for every second; the last one may be shorter.
        sample_rate: Hz.
        spectral: the model's way between waveform and grid.
        provenance: input, query and model.
    """

    target: Float32[np.ndarray, "c n"]
    residual: Float32[np.ndarray, "c n"]
    grid_mask: Float32[np.ndarray, "bands steps"]
    presence: float
    present: bool
    confidence: Float32[np.ndarray, " s"]
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

    @property
    def uncertainty(self) -> Float32[np.ndarray, "bands steps"]:
        """How far the Beta policy would scatter masks around `grid_mask` (standard deviation); see `separate.doubt`."""
        from marssep.separate.doubt import spread

        made: np.ndarray = spread(torch.from_numpy(self.grid_mask)).numpy()
        return made

    def refine(self, reward: "Reward", *, settings: "RefineSettings | None" = None) -> "Separation":
        """This separation, moved to where a reward of yours likes it better; the reward needs no gradient.

        Masks around the present one are tried, and a clipped policy update says which way to go (`separate.refining`;
        what it is worth is in docs/reinforcement.md). Of all proposals the one that the reward liked best is kept, so
        the reward never falls. The rest of the recording is what remains, and presence and confidence stay those of
        the first separation.

        Args:
            reward: takes candidates for the target `[g, c, n]` (float32, without attenuation for absence) and their
                sample rate in hertz, and gives g finite numbers: the higher the better, in any unit. With
                the default settings it hears 545 candidates, a few at a time.
            settings: how far and how carefully; the seed, too.

        Raises:
            UsageError: if the recording is longer than 60 s, or the reward gives anything but finite numbers.
        """
        from marssep.separate.refining import RefineSettings
        from marssep.separate.rewarded import refine_separation

        return refine_separation(self, reward, settings or RefineSettings())

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
        make_folder(folder)
        name = name or self.default_name
        files = SavedFiles(
            target=folder / f"{name}.target.wav",
            residual=folder / f"{name}.residual.wav",
            sidecar=folder / f"{name}.json",
            picture=folder / f"{name}.png" if picture else None,
        )
        subtype = natural_subtype(self.provenance.subtype)
        if not self._write(files, subtype):
            self._write(files, unlimited_subtype(self.provenance.subtype), last=True)
        if files.picture is not None:
            self._draw(files.picture)
        write_sidecar(files.sidecar, self.sidecar(files))
        return files

    def sidecar(self, files: SavedFiles) -> dict[str, Any]:
        """What `save` writes as JSON."""
        return sidecar_row(
            files,
            self.provenance,
            presence=self.presence,
            present=self.present,
            confidence=[round(each, 6) for each in self.confidence.tolist()],
            sample_rate=self.sample_rate,
            shape=self.target.shape,
        )

    @property
    def default_name(self) -> str:
        """Input and query as the beginning of a file name, e.g. `talk.dog-barking`."""
        return f"{Path(self.provenance.input).stem}.{query_slug(self.provenance.query)}"

    def _write(self, files: SavedFiles, subtype: str, *, last: bool = False) -> bool:
        """Whether all samples fitted; nothing appears if not."""
        channels, frames = self.target.shape
        # The sum of the two is off by a rounding error where the input was not.
        mixture = quantise(self.mixture, subtype=natural_subtype(self.provenance.subtype))
        layout = Layout(self.sample_rate, channels, frames, on_grid=self.provenance.subtype in _ON_GRID)
        with Bundle([files.target], files.residual, layout=layout, subtype=subtype) as bundle:
            bundle.write([self.target], mixture)
            if bundle.clipped and not last:
                return False
            bundle.finish()
            bundle.publish()
        return True

    def _draw(self, path: Path) -> None:
        from marssep.separate.picture import Scene, asked_for, draw_scene

        titles = {
            "mixture": self.mixture,
            f"target: {asked_for(self.provenance.query)}": self.target,
            "residual": self.residual,
        }
        waveforms = {
            title: ArraySource(torch.from_numpy(wave), self.sample_rate, title) for title, wave in titles.items()
        }
        mask = [torch.from_numpy(self.grid_mask)]
        draw_scene(Scene(waveforms, mask, self.target.shape[-1], self.presence, self.spectral), path)
