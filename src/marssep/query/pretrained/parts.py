"""One model of somebody else: what it can take, and the vector it makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.errors import ModelError
from marssep.query.pretrained.door import load_model
from marssep.query.pretrained.folders import digest, model_folder, read_config, read_processor
from marssep.query.pretrained.pictures import PictureFrontEnd
from marssep.query.pretrained.sounds import ClapFrontEnd, reflect_to_multiple, window_starts
from marssep.query.pretrained.words import Words
from marssep.query.trunks.audio import resample_waveform
from marssep.runtime.fusing import Modality

_PE_SECONDS = 30.0  # of one window: its attention grows with the square of the length
_PE_TOKENS = 512


class Part(nn.Module):
    """A frozen model with its front ends.

    Attributes:
        takes: modalities it has a tower for.
        one_space: all of them lie in one space; otherwise only trained heads make sense of them.
        width: of its vectors.
        digest: changes with its weights and its preparation.
    """

    takes: ClassVar[tuple[Modality, ...]] = ()
    one_space: ClassVar[bool] = True
    model_types: ClassVar[tuple[str, ...]] = ()

    def __init__(self, place: str) -> None:
        """Load it.

        Args:
            place: folder, or OWNER/NAME in the Hub's cache.

        Raises:
            ModelError: nothing usable there.
        """
        super().__init__()
        self.folder: Path = model_folder(place)
        kind = read_config(self.folder).get("model_type")
        if kind not in self.model_types:
            raise ModelError(
                f"{self.folder}: holds a model of type '{kind}', not {' or '.join(self.model_types)}; "
                "name the part after what the folder holds."
            )
        self.model: Any = load_model(self.folder)
        self.digest = digest(self.folder)
        self.width = 0

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Vectors of texts."""
        raise NotImplementedError

    def audio(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """Vectors of waveforms; differentiable."""
        raise NotImplementedError

    def image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """Vectors of pictures."""
        raise NotImplementedError

    def width_of(self, modality: Modality) -> int:
        """Width of the vectors of one modality."""
        return self.width

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class ClapPart(Part):
    """LAION-CLAP: words and sounds."""

    takes = ("text", "audio")
    model_types = ("clap",)

    def __init__(self, place: str) -> None:
        super().__init__(place)
        config = self.model.config
        self.width = int(config.projection_dim)
        pad = int(config.text_config.pad_token_id)
        # RoBERTa counts positions from the padding's number on
        self.words = Words(self.folder, longest=int(config.text_config.max_position_embeddings) - pad - 1, padding=pad)
        self.front = ClapFrontEnd(_clap_settings(self.folder), fusion=bool(config.audio_config.enable_fusion))

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Its text projection."""
        numbers, real = (rows.to(self.device) for rows in self.words(texts))
        made: Tensor = self.model.get_text_features(input_ids=numbers, attention_mask=real).pooler_output
        return made

    def audio(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """Its audio projection; the mean over windows of a clip that is longer than it takes."""
        heard = self.front(resample_waveform(waveform, from_rate=sample_rate, to_rate=self.front.sample_rate))
        made: Tensor = self.model.get_audio_features(heard.features, is_longer=heard.longer).pooler_output
        return made.unflatten(0, (-1, heard.windows)).mean(1)


class ClipPart(Part):
    """CLIP: words and pictures."""

    takes = ("text", "image")
    model_types = ("clip",)

    def __init__(self, place: str) -> None:
        super().__init__(place)
        config = self.model.config
        self.width = int(config.projection_dim)
        self.words = self._words(config.text_config)
        self.pictures = PictureFrontEnd.read(self.folder)

    def _words(self, config: Any) -> Words:
        # it reads the state at the end mark, which sees nothing of what follows
        return Words(self.folder, longest=int(config.max_position_embeddings), padding=0)

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Its text projection."""
        numbers, real = (rows.to(self.device) for rows in self.words(texts))
        made: Tensor = self.model.get_text_features(input_ids=numbers, attention_mask=real).pooler_output
        return F.normalize(made, dim=-1)

    def image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """Its image projection."""
        pixels = self.pictures(images).to(self.device)
        made: Tensor = self.model.get_image_features(pixel_values=pixels).pooler_output
        return F.normalize(made, dim=-1)


class SiglipPart(ClipPart):
    """SigLIP: words and pictures."""

    model_types = ("siglip",)

    def __init__(self, place: str) -> None:
        Part.__init__(self, place)
        config = self.model.config
        self.width = int(config.vision_config.hidden_size)
        text = config.text_config
        # it was trained on texts that are filled up to the end, and reads the last place
        self.words = Words(
            self.folder, longest=int(text.max_position_embeddings), padding=int(text.pad_token_id), whole=True
        )
        self.pictures = PictureFrontEnd.read(self.folder)

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Its pooled text."""
        numbers, _ = self.words(texts)
        made: Tensor = self.model.get_text_features(input_ids=numbers.to(self.device)).pooler_output
        return F.normalize(made, dim=-1)


class PeAudioPart(Part):
    """PE-A, the perception encoder for words and sounds."""

    takes: ClassVar[tuple[Modality, ...]] = ("text", "audio")
    model_types = ("pe_audio",)

    def __init__(self, place: str) -> None:
        super().__init__(place)
        settings = read_processor(self.folder, "feature_extractor")
        self.sample_rate, self.hop = int(settings["sampling_rate"]), int(settings["hop_length"])
        config = self.model.config.text_config
        self.width = int(config.hidden_size)
        self.words = Words(
            self.folder,
            longest=min(_PE_TOKENS, int(config.max_position_embeddings)),
            padding=int(config.pad_token_id),
        )
        audio = self._audio_model()
        audio.audio_encoder.embedder = _OpenCodec(audio.audio_encoder.embedder)

    def _audio_model(self) -> Any:
        return self.model

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Its place of texts among sounds."""
        return F.normalize(self._audio_model().text_audio_head(self._read(texts)), dim=-1)

    def audio(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """Its place of sounds; the mean over windows of a clip longer than 30 s."""
        waveform = resample_waveform(waveform, from_rate=sample_rate, to_rate=self.sample_rate)
        length = min(waveform.shape[-1], round(_PE_SECONDS * self.sample_rate))
        starts = window_starts(waveform.shape[-1], length)
        parts = torch.stack([waveform[:, start : start + length] for start in starts], dim=1).flatten(0, 1)
        values = reflect_to_multiple(parts, self.hop)[:, None]
        audio = self._audio_model()
        placed: Tensor = audio.audio_head(audio.audio_encoder(input_values=values).pooler_output)
        return F.normalize(placed, dim=-1).unflatten(0, (-1, len(starts))).mean(1)

    def _read(self, texts: Sequence[str]) -> Tensor:
        numbers, real = (rows.to(self.device) for rows in self.words(texts))
        read = self.model.text_model(input_ids=numbers, attention_mask=real, output_hidden_states=True)
        state: Tensor = read.hidden_states[-1][:, 0]
        return state


class PeAvPart(PeAudioPart):
    """PE-AV, the perception encoder for words, sounds and pictures (a picture is a film of one frame)."""

    takes = ("text", "audio", "image")
    model_types = ("pe_audio_video",)

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.pictures = PictureFrontEnd.read(self.folder)

    def _audio_model(self) -> Any:
        return self.model.audio_model

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Between its places of texts among sounds and among films."""
        state = self._read(texts)
        heads = (self.model.audio_model.text_audio_head, self.model.video_model.text_video_head)
        return F.normalize(sum((F.normalize(head(state), dim=-1) for head in heads), torch.zeros(())), dim=-1)

    def image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """Its place of a film of one frame."""
        frames = self.pictures(images).to(self.device)[:, None]
        video = self.model.video_model
        placed: Tensor = video.video_head(video.video_encoder(pixel_values_videos=frames).pooler_output)
        return F.normalize(placed, dim=-1)


class _OpenCodec(nn.Module):
    """The codec below PE-A's transformer, run with gradient: the library cuts it there."""

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, input_values: Tensor, padding_mask: None = None) -> tuple[Tensor, None]:
        codes: Tensor = self.embedder.bottleneck(self.embedder.dac_encoder(input_values))
        return self.embedder.data_proj(codes.transpose(1, 2)), None


def _clap_settings(folder: Path) -> dict[str, int | float]:
    stated = read_processor(folder, "feature_extractor")
    names = ("sampling_rate", "frequency_min", "frequency_max", "fft_window_size", "hop_length", "feature_size")
    try:
        return {name: stated[name] for name in (*names, "max_length_s")}
    except KeyError as error:
        raise ModelError(f"{folder}: its sound preparation lacks {error}; get the model's files again.") from None
