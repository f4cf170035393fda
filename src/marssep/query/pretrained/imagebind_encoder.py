"""The encoder `imagebind:FOLDER`: ImageBind, where its package is installed; for research, its licence says."""

import importlib
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from marssep.errors import ModelError
from marssep.query.encoder import QueryEncoder
from marssep.query.heads import PlainHead
from marssep.query.pretrained.folders import digest, model_folder_of_weights
from marssep.query.pretrained.pictures import PictureFrontEnd
from marssep.query.pretrained.sounds import KaldiFrontEnd, window_starts
from marssep.query.trunks.audio import resample_waveform
from marssep.runtime.fusing import MODALITIES

LICENCE = "CC BY-NC-SA 4.0"
_DIMENSION = 1024
_CLIP, _FRAMES, _FEWEST = 32000, 204, 3  # samples and frames of a clip of 2 s; clips of a longer sound
_MEAN, _SPREAD = -4.268, 9.138
_PICTURES = PictureFrontEnd(224, 224, 224, 3, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

_LOG = logging.getLogger(__name__)


class ImageBindEncoder(QueryEncoder):
    """Words, sounds and pictures in ImageBind's own space; the paper's encoder."""

    name = "imagebind"

    def __init__(self, place: str) -> None:
        """Load its weights from `model.safetensors` in a folder, as `marssep models convert` makes it.

        Raises:
            ModelError: the package is not installed, or the weights are missing, damaged or others.
        """
        self.name = f"{type(self).name}:{place}"
        folder = model_folder_of_weights(place)
        library, self._data = _library("imagebind.models.imagebind_model"), _library("imagebind.data")
        model: Any = library.imagebind_huge(pretrained=False)
        _fill(model, folder / "model.safetensors")
        _LOG.warning("ImageBind's weights and code are under %s: not for commercial use.", LICENCE)
        trunks = f"{type(self).name}-{digest(folder)}"
        super().__init__(_DIMENSION, {name: PlainHead(_DIMENSION) for name in MODALITIES}, trunks)
        self.trunks, self.model, self.front = trunks, model, KaldiFrontEnd()

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float32[Tensor, "b 1024"]:
        """Its text head."""
        return self._run("text", self._data.load_and_transform_text(list(texts), self.device))

    def audio_features(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b 1024"]:
        """Its audio head, the mean over clips of 2 s that cover the sound; the library takes three."""
        waveform = resample_waveform(waveform, from_rate=sample_rate, to_rate=self.front.sample_rate)
        n = waveform.shape[-1]
        starts = window_starts(n, _CLIP, fewest=_FEWEST) if n > _CLIP else [0]
        clips = torch.stack([waveform[:, start : start + _CLIP] for start in starts], dim=1)
        clips = clips - clips.mean(-1, keepdim=True)
        clips = F.pad(clips, (0, max(0, 400 - clips.shape[-1])))  # one frame at least
        levels = self.front(clips.flatten(0, 1)).transpose(1, 2)[..., :_FRAMES]
        levels = F.pad(levels, (0, _FRAMES - levels.shape[-1]))
        return self._run("audio", ((levels - _MEAN) / _SPREAD).unflatten(0, clips.shape[:2])[:, :, None])

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b 1024"]:
        """Its vision head."""
        return self._run("vision", _PICTURES(images).to(self.device))

    def _run(self, modality: str, inputs: Tensor) -> Tensor:
        made: Tensor = self.model({modality: inputs})[modality]
        return made


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"The encoder 'imagebind' needs the package imagebind ({error}), which is under {LICENCE}: not for "
            "commercial use."
        ) from None


def _fill(model: Any, path: Any) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ModelError(f"{path}: these are not ImageBind's weights ({cause}); convert them again.") from None
