"""A fast student of the reward encoder that hears the grid instead of the waveform.

One rollout of the reinforcement asks for a hundred rewards; with an inverse STFT and the query encoder's trunk each
of them costs as much as the separator itself. The student reads the masked grid: its first part is a small network that
was trained to place a separation where the aligned encoder places it, its second part is the encoder's own `detail`,
which needs no more than the grid anyway. Names lie where the query encoder puts them.
"""

import json
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor, nn

from marssep.errors import ModelError, SettingsError
from marssep.reward.detail import AXIS, compressed, relative_power
from marssep.reward.encoder import SHIPPED, RewardEncoder
from marssep.reward.heads import DetailHead
from marssep.settings import Settings
from marssep.spectral import SpectralSettings

FILE, CARD = "student.safetensors", "student.json"
_FLOOR = 1e-4  # of the relative power: 40 dB below the mean is as good as nothing


class StudentSettings(Settings):
    """Shape of the student."""

    bands: int = Field(default=64, ge=8)
    """Rows it hears, pooled from the grid's."""
    segments: int = Field(default=32, ge=8)
    """Columns: an eighth of a second each in a clip of 4 s."""
    channels: tuple[int, ...] = (24, 64, 128, 192)
    """Of its convolutions; each halves rows and columns."""


class GridStudent(nn.Module):
    """Power on the grid to an embedding in the space of a reward encoder; frozen where it is used.

    Args:
        teacher: whose second part, share and dimensions are taken over; None to load weights into it.
        settings: shape of the first part.
        shape: (cells of the detail, its dimension, dimension of the first part, exponent, frequency axis of the rows),
            if there is no teacher.
    """

    def __init__(
        self,
        teacher: RewardEncoder | None,
        settings: StudentSettings | None = None,
        *,
        shape: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or StudentSettings()
        if teacher is not None:
            own = teacher.settings
            shape = {
                "bands": own.bands,
                "segments": own.segments,
                "detail": own.detail_dimension,
                "inner": own.detail_inner,
                "width": own.detail_width,
                "dimension": teacher.encoder.dimension,
                "exponent": own.exponent,
                **AXIS,
            }
        assert shape is not None
        self.shape = shape
        self.card: dict[str, Any] = {}
        layers: list[nn.Module] = []
        for before, after in zip((1, *self.settings.channels), self.settings.channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        width = self.settings.channels[-1]
        rows = -(-self.settings.bands // 2 ** len(self.settings.channels))
        self.what = nn.Sequential(
            nn.Linear(2 * width * rows, 384), nn.SiLU(), nn.Dropout(0.1), nn.Linear(384, int(shape["dimension"]))
        )
        self.detail = DetailHead(
            int(shape["bands"] * shape["segments"]),
            int(shape["detail"]),
            inner=int(shape.get("inner", shape["detail"])),
            width=shape.get("width", 0.0),  # a student of an earlier encoder has no waves
        )
        self.register_buffer("share", torch.zeros(()))
        self.share: Tensor
        if teacher is not None:
            self.detail.load_state_dict(teacher.detail.state_dict())
            self.share.copy_(teacher.share().detach())

    @property
    def dimension(self) -> int:
        """Of an embedding, both parts."""
        return int(self.shape["dimension"] + self.shape["detail"])

    def check_grid(self, spectral: SpectralSettings) -> None:
        """Make sure that rows of a grid are what the student takes them for; their number does not matter.

        Raises:
            SettingsError: if they are other frequencies.
        """
        own = {name: self.shape.get(name, usual) for name, usual in AXIS.items()}
        given = {name: float(getattr(spectral, name)) for name in AXIS}
        if own != given:
            raise SettingsError(
                f"model.spectral: the rows end at {given['max_frequency']:g} Hz and bend at "
                f"{given['corner_frequency']:g} Hz, but the reward's student hears rows that end at "
                f"{own['max_frequency']:g} Hz and bend at {own['corner_frequency']:g} Hz; train a model with those, or "
                "reward something else than similarity ('reward.weights')."
            )

    def forward(self, power: Float[Tensor, "b bands steps"]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of sounds given as power on the grid, at any level; zero for silence."""
        power = power.float()
        cells = (int(self.shape["bands"]), int(self.shape["segments"]))
        grid = relative_power(F.adaptive_avg_pool2d(power, cells))
        second = self.detail(compressed(grid, self.shape["exponent"])) * self.share.sqrt()
        first = self.place(power) * (1.0 - self.share).sqrt()
        return torch.cat([first, second], dim=-1) * (grid.sum((1, 2)) > 0).float()[:, None]

    def place(self, power: Float[Tensor, "b bands steps"]) -> Float32[Tensor, "b d"]:
        """The first part alone, of length 1: what the sound is."""
        pooled = F.adaptive_avg_pool2d(power, (self.settings.bands, self.settings.segments))
        heard = torch.log(relative_power(pooled) + _FLOOR) / 3.0 + 1.0
        hidden = self.layers(heard[:, None])
        pooled = torch.cat([hidden.mean(3), hidden.amax(3)], dim=1).flatten(1)
        return F.normalize(self.what(pooled), dim=-1)

    def place_name(self, text: Float[Tensor, "b d"]) -> Float32[Tensor, "b e"]:
        """A name's embedding by the query encoder as one of this space; the second part is zero."""
        return F.pad(F.normalize(text.float(), dim=-1), (0, self.dimension - text.shape[-1]))

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write weights in half precision and `student.json`, and take over the rounded values."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: tensor.detach().half().contiguous() if tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
        }
        self.load_state_dict(state)
        self.card = card
        content = {"settings": self.settings.model_dump(mode="json"), "shape": self.shape, "card": card}
        for name, data in ((FILE, save(state)), (CARD, (json.dumps(content, indent=1) + "\n").encode())):
            partial = folder / f"{name}.partial"
            partial.write_bytes(data)
            partial.replace(folder / name)

    @classmethod
    def load(cls, folder: Path = SHIPPED / "student") -> Self:
        """Load what `save` wrote, frozen.

        Raises:
            ModelError: missing or damaged files.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            content = json.loads((folder / CARD).read_text(encoding="utf-8"))
            settings = StudentSettings.parse(content["settings"], source=f"{folder / CARD}")
            made = cls(None, settings, shape=content["shape"])
            made.load_state_dict(load((folder / FILE).read_bytes()))
        except OSError as error:
            raise ModelError(
                f"{folder}: no student there ({error.strerror}); make one with 'marssep train distil'."
            ) from None
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise ModelError(f"{folder}: no usable student ({cause}); train or install it again.") from None
        made.card = dict(content["card"])
        return made.requires_grad_(False).eval()
