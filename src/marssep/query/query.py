"""What a person asks for: words, an example, a picture, any mix of them, and what they do not want."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from marssep.audio import Audio, read_audio, to_mono
from marssep.errors import InputError, UsageError
from marssep.query.encoder import QueryEncoder
from marssep.query.fusion import fuse, negate
from marssep.query.readings import Readings
from marssep.query.regions import Region, Regions, check_regions
from marssep.runtime.fusing import Modality
from marssep.runtime.pictures import load_image

PathLike = str | os.PathLike[str]
AudioQuery = PathLike | tuple[np.ndarray, int] | Audio
ImageQuery = PathLike | Image.Image
Words = str | Sequence[str]
"""One text, or several."""


class QueryParts(TypedDict, total=False):
    """The fields of `Query` as keywords."""

    text: str | None
    audio: AudioQuery | None
    image: ImageQuery | None
    like: Regions
    weights: Mapping[Modality, float] | None
    negative: Words | None
    negative_in: Literal["logits", "embedding"]


@dataclass(frozen=True)
class Query:
    """At least one of text, audio, image and a region of the recording itself.

    Attributes:
        text: free text in English: a label, a synonym, a sentence.
        audio: recording of such a sound: a file, or `(waveform [n] or [c, n], sample_rate in Hz)`.
        image: picture of what makes the sound: a file or a PIL image.
        like: where in the recording itself the sound can be heard: `(begin, end)` in seconds, or several of them; they
            count as examples beside `audio`.
        weights: of the modalities, >= 0; `DEFAULT_WEIGHTS` for what is not named; regions have that of audio.
        negative: text for what is not wanted, or several texts for several sounds.
        negative_in: where negatives work: in the mask's `logits` (decision 0006), or in the `embedding` as
            `(1 + a) Q - a Q_N` with a = 0.5 (OmniSep), Q_N their mean.

    Raises:
        UsageError: if there is nothing in it, or a region makes no sense.
    """

    text: str | None = None
    audio: AudioQuery | None = None
    image: ImageQuery | None = None
    like: Regions = ()
    weights: Mapping[Modality, float] | None = None
    negative: Words | None = None
    negative_in: Literal["logits", "embedding"] = "logits"

    def __post_init__(self) -> None:
        for name, texts in (("text", one_or_more(self.text)), ("negative", self.negatives)):
            if any(not text.strip() for text in texts):
                raise UsageError(f"The query's {name} has no words in it; say what you mean or leave it out.")
        regions = self.regions
        if self.text is None and self.audio is None and self.image is None and not regions:
            raise UsageError("The query has nothing in it; give text, audio, an image or a region of the recording.")

    @property
    def negatives(self) -> tuple[str, ...]:
        """`negative` as texts, whether one was given, several or none."""
        return one_or_more(self.negative)

    @property
    def regions(self) -> tuple[Region, ...]:
        """`like` as regions, whether one was given, several or none."""
        return check_regions(self.like)


def one_or_more(words: Words | None) -> tuple[str, ...]:
    """Texts, whether one was given, several or none."""
    return () if words is None else (words,) if isinstance(words, str) else tuple(words)


@torch.no_grad()
def embed_query(
    query: Query, encoder: QueryEncoder, *, excerpts: Sequence[tuple[Float32[Tensor, " n"], int]] = ()
) -> Float32[Tensor, " d"]:
    """Place of the wanted sound on the sphere, all modalities fused, moved away from a negative that works there.

    Args:
        query: what is asked for.
        encoder: gives the places.
        excerpts: samples and rate of each of the query's regions; only who has the recording can read them.

    Raises:
        InputError: a file is missing or cannot be read, or the sound is not usable.
        UsageError: weights that do not fit, or regions without their samples.
    """
    if len(excerpts) != len(query.regions):
        raise UsageError("A query by a region can only be answered together with the recording that it is a region of.")
    embeddings: dict[Modality, Tensor] = {}
    if query.text is not None:
        embeddings["text"] = encoder.embed_text([query.text])[0]
    examples = [*excerpts]
    if query.audio is not None:
        waveform, sample_rate = _load_audio(query.audio)
        examples.append((torch.from_numpy(waveform), sample_rate))
    if examples:
        places = [encoder.embed_audio(example[None], sample_rate=rate)[0] for example, rate in examples]
        embeddings["audio"] = places[0] if len(places) == 1 else F.normalize(torch.stack(places).sum(0), dim=-1)
    if query.image is not None:
        embeddings["image"] = encoder.embed_image([load_image(query.image)])[0]
    fused = fuse(embeddings, query.weights)
    if not query.negatives or query.negative_in == "logits":
        return fused
    unwanted = F.normalize(encoder.embed_text(query.negatives).sum(0), dim=-1)
    return F.normalize(negate(fused, unwanted), dim=-1)


@torch.no_grad()
def read_query(query: Query, encoder: QueryEncoder) -> Readings | None:
    """What a query by picture alone may mean; None for all others, which words or an example make sure enough.

    Raises:
        InputError: the picture is missing or cannot be read.
    """
    moved = bool(query.negatives) and query.negative_in == "embedding"
    if query.image is None or query.text is not None or query.audio is not None or query.regions or moved:
        return None
    return encoder.read_images([load_image(query.image)])


def _load_audio(audio: AudioQuery) -> tuple[np.ndarray, int]:
    if isinstance(audio, Audio):
        audio = (audio.waveform, audio.sample_rate)
    if isinstance(audio, tuple):
        waveform, sample_rate = to_mono(np.asarray(audio[0])), int(audio[1])
        if waveform.size == 0 or not np.isfinite(waveform).all():
            raise InputError("The query's waveform is empty or has samples that are not numbers; give a clean example.")
    else:
        read = read_audio(audio)
        waveform, sample_rate = to_mono(read.waveform), read.sample_rate
    return np.ascontiguousarray(waveform, dtype=np.float32), sample_rate
