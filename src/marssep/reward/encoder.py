"""The reward encoder: the query encoder's trunks under heads that must tell a good separation from a poor one.

An audio embedding has two parts. The first lies in the space of the query encoder and says what is heard; names and
pictures have only this one. The second (`reward.detail`) says what the sound consists of. `detail_share` is the part of
the squared length that belongs to the second, so that the cosine of two recordings is
`(1 - share) * cosine of the first + share * cosine of the second`, and that of a recording and a name is
`sqrt(1 - share) * cosine of the first`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from marssep.errors import InputError, ModelError, UsageError
from marssep.query import QueryEncoder, load_encoder
from marssep.reward.alignment import Temperature
from marssep.reward.anchors import AnchorSettings, build_anchors
from marssep.reward.detail import compressed, detail_grid
from marssep.reward.heads import DetailHead, reset_head, starting_head
from marssep.settings import Settings

FILE = "heads.safetensors"
CARD = "reward.json"
SHIPPED = Path(__file__).parent.parent / "weights" / "reward"
"""Folder of the reward encoders that come with the package, `stage2` and `stage3`."""
WITH_DETAIL = 2
"""Stage from which the second part of the embedding counts."""


class RewardEncoderSettings(Settings):
    """Shape of the reward encoder."""

    bands: int = Field(default=32, ge=1)
    """Rows of the spectral picture."""
    segments: int = Field(default=16, ge=1)
    """Columns of it: parts of equal length, a quarter of a second in a clip of 4 s."""
    exponent: float = Field(default=0.5, gt=0, le=1)
    """Compression of its power; 0.5 is the magnitude. Smaller ones follow SI-SDR less well (0.25: by 0.13)."""
    detail_inner: int = Field(default=256, ge=1)
    """Of the linear map of the spectral picture."""
    detail_dimension: int = Field(default=512, ge=2, multiple_of=2)
    """Of the second part of the embedding: a sine and a cosine of half as many waves."""
    detail_width: float = Field(default=0.5, ge=0)
    """Of the bell that the waves make of the linear part's cosine; 0 is a linear head. On validation, as a function of
    a trained linear part, 0.5 had more of everything than 0.6, 0.7, 1 and no bell: gap .59, .54, .48, .37."""
    detail_share: float = Field(default=0.6, gt=0, lt=1)
    """Initial share of the second part in the squared length; trained."""
    image_rank: int = Field(default=64, ge=1)
    """Of the map that is added to a picture head without parameters."""
    anchor: AnchorSettings = AnchorSettings()
    """Of the anchors that are trained."""


class RewardEncoder(nn.Module):
    """Frozen trunks, trained heads; waveform to embedding in float32, the same for the same input, differentiable.

    Attributes:
        encoder: the query encoder; its trunks are used, its own heads are not.
        heads: `text`, `audio`, `image`.
        detail: of the spectral picture.
        anchors: one of each of `ANCHORS`.
        stage: 0 (nothing aligned), 1, 2 or 3.
        card: facts about the training.
    """

    def __init__(self, encoder: QueryEncoder, settings: RewardEncoderSettings | None = None, *, stage: int = 1) -> None:
        """Start from the heads of a query encoder, which are those of stage 1.

        Args:
            encoder: frozen here; its heads are copied.
            settings: shape.
            stage: 0 takes the query encoder's `stock_heads`; where it has none, it forgets the training of the heads.
        """
        super().__init__()
        self.settings = settings or RewardEncoderSettings()
        self.encoder = encoder.requires_grad_(False).eval()
        self.stage = stage
        self.card: dict[str, Any] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            shape = {"dimension": encoder.dimension, "rank": self.settings.image_rank}
            self.heads = nn.ModuleDict(
                {
                    name: starting_head(head, n_features=head.get_buffer("mean").shape[-1], **shape)
                    for name, head in encoder.heads.items()
                }
            )
            self.detail = DetailHead(
                self.settings.bands * self.settings.segments,
                self.settings.detail_dimension,
                inner=self.settings.detail_inner,
                width=self.settings.detail_width,
            )
            if stage == 0:
                self._forget()
        self.share_logit = nn.Parameter(torch.tensor(self.settings.detail_share).logit())
        self.temperature = Temperature()
        self.anchors = build_anchors(self.dimension, self.settings.anchor)
        self.requires_grad_(False).eval()

    def _forget(self) -> None:
        stock = self.encoder.stock_heads()
        if stock is not None:
            self.heads = nn.ModuleDict(stock)
            return
        for head in self.heads.values():
            reset_head(head)

    @property
    def dimension(self) -> int:
        """Of an embedding, both parts."""
        return self.encoder.dimension + self.settings.detail_dimension

    @property
    def fingerprint(self) -> str:
        """Changes whenever the embeddings may change."""
        digest = hashlib.sha256(self.encoder.fingerprint.encode())
        for name, tensor in sorted(self.own_state().items()):
            digest.update(name.encode() + tensor.half().numpy().tobytes())
        return f"reward-{self.stage}-{digest.hexdigest()[:16]}"

    def share(self) -> Tensor:
        """Part of the second half of the embedding in the squared length, in (0, 1); 0 before stage 2."""
        return torch.sigmoid(self.share_logit) if self.stage >= WITH_DETAIL else self.share_logit.new_zeros(())

    def embed_audio(self, waveform: Float[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of waveforms of any rate and length; zero for a silent one, which is like nothing.

        Args:
            waveform: full scale 1.0; the level plays no part.
            sample_rate: Hz.

        Raises:
            UsageError: no samples, or a rate below 1 Hz.
            InputError: NaN or infinite samples.
        """
        if waveform.shape[-1] == 0 or sample_rate < 1:
            raise UsageError(
                f"A reward needs a waveform with samples at 1 Hz or more, not {list(waveform.shape)} at {sample_rate}."
            )
        if not bool(waveform.isfinite().all()):
            raise InputError("A waveform holds NaN or infinite samples, for which no reward is defined; mend it first.")
        shape = {"bands": self.settings.bands, "segments": self.settings.segments}
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.float()
            features = self.encoder.audio_features(waveform, sample_rate)
            return self.place_audio(features, detail_grid(waveform, sample_rate, **shape))

    def embed_text(self, texts: Sequence[str]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of texts; the second part is zero."""
        return self.place("text", self.encoder.text_features(texts))

    def embed_image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b d"]:
        """Unit-norm embeddings of pictures; the second part is zero."""
        return self.place("image", self.encoder.image_features(images))

    def place_audio(
        self, features: Float[Tensor, "b f"], grid: Float[Tensor, "b bands segments"]
    ) -> Float32[Tensor, "b d"]:
        """Embeddings from trunk features and a `detail_grid`, as training has them at hand."""
        share = self.share()
        sounds = (grid.sum((1, 2)) > 0).float()[:, None]
        first = self.heads["audio"](features) * (1.0 - share).sqrt()
        second = self.detail(compressed(grid, self.settings.exponent)) * share.sqrt()
        return torch.cat([first, second], dim=-1) * sounds

    def place(self, modality: str, features: Float[Tensor, "b f"]) -> Float32[Tensor, "b d"]:
        """Embeddings of names or pictures from trunk features."""
        return F.pad(self.heads[modality](features), (0, self.settings.detail_dimension))

    def own_state(self) -> dict[str, Tensor]:
        """All weights but the trunks'."""
        return {
            name: tensor.detach().cpu() for name, tensor in self.state_dict().items() if not name.startswith("encoder.")
        }

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write weights in half precision and `reward.json`, and take over the rounded values."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.half().contiguous() for name, tensor in self.own_state().items()}
        self.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        self.card = dict(card)
        content = {
            "stage": self.stage,
            "encoder": self.encoder.name,
            "encoder_fingerprint": self.encoder.fingerprint,
            "settings": self.settings.model_dump(),
            "card": self.card,
        }
        for name, data in ((FILE, save(state)), (CARD, (json.dumps(content, indent=1) + "\n").encode())):
            partial = folder / f"{name}.partial"
            partial.write_bytes(data)
            partial.replace(folder / name)

    @classmethod
    def load(cls, folder: Path = SHIPPED / "stage3", *, encoder: QueryEncoder | None = None) -> Self:
        """Load what `save` wrote.

        Args:
            folder: with `heads.safetensors` and `reward.json`.
            encoder: the query encoder, if it is loaded already.

        Raises:
            ModelError: missing or damaged files, or those of another query encoder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            content = json.loads((folder / CARD).read_text(encoding="utf-8"))
            stated = {"detail_width": 0.0, **content["settings"]}  # those of before the waves do not say it
            settings = RewardEncoderSettings.parse(stated, source=f"{folder / CARD}")
            made = cls(encoder or load_encoder(content["encoder"]), settings, stage=content["stage"])
            state = load((folder / FILE).read_bytes())
            missing = made.own_state().keys() - state.keys()
            if missing:
                raise RuntimeError(f"no {min(missing)}")
            made.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        except OSError as error:
            raise ModelError(
                f"{folder}: no reward encoder there ({error.strerror}); make one with 'marssep train align --stage 2'."
            ) from None
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise ModelError(f"{folder}: no usable reward encoder ({cause}); train or install it again.") from None
        made.card = dict(content["card"])
        return made
