"""Semantic scores: how well a sound fits what was asked for, in the ears of a query encoder.

A CLAP-style score is the cosine between the embedding of the estimate and that of the query. Three are given: against
the text, against the reference recording and against a picture. The same is asked of the mixture (doing nothing) and
of the reference (the oracle), so that an improvement and a share of what is possible are defined. The encoder's name
goes with every figure: the scores of two encoders cannot be compared.

An encoder that took part in training is a biased witness here. `marssep.evaluate.judge` is the unbiased one.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from marssep.metrics import is_silent
from marssep.query import QueryEncoder

_BATCH = 16  # recordings at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Similarity:
    """Cosines of one kind in [-1, 1], each `[b]`; NaN where nothing was asked or the reference is silent.

    Attributes:
        estimate: of the separated sound; 0 for a silent one, which fits nothing (leaving it out would reward silence).
        mixture: of the untouched recording; 0 for a silent one.
        oracle: of the reference itself; 1 by definition against the reference.
    """

    estimate: Tensor
    mixture: Tensor
    oracle: Tensor

    @property
    def improvement(self) -> Tensor:
        """Estimate minus mixture."""
        return self.estimate - self.mixture

    @property
    def headroom(self) -> Tensor:
        """Oracle minus mixture: what there was to gain, which may be negative where the encoder hears it otherwise."""
        return self.oracle - self.mixture


@dataclass(frozen=True, slots=True)
class SemanticScores:
    """Similarities by text, audio and image, and the encoder that gave them.

    Attributes:
        encoder: its name, as in `load_encoder`.
        fingerprint: of its weights.
        text: against the text of each query.
        audio: against the reference recording.
        image: against the picture of each query.
    """

    encoder: str
    fingerprint: str
    text: Similarity
    audio: Similarity
    image: Similarity

    def rows(self) -> list[dict[str, float]]:
        """One dictionary for each estimate: `clap_text`, `clap_text_mixture`, `clap_text_oracle`, and so on."""
        columns: dict[str, list[float]] = {}
        for kind in ("text", "audio", "image"):
            similarity: Similarity = getattr(self, kind)
            for field in dataclasses.fields(similarity):
                name = f"clap_{kind}" if field.name == "estimate" else f"clap_{kind}_{field.name}"
                columns[name] = getattr(similarity, field.name).tolist()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, slots=True)
class SemanticReference:
    """What estimates of one mixture are compared with, embedded once for all systems; made by `of`.

    Attributes:
        encoder: who listens.
        sample_rate: of every recording, Hz.
        mixture: embedding `[d]`, zero if silent.
        audio: of the references `[b, d]`, NaN where silent.
        text: of the texts `[b, d]`, NaN where there is none.
        image: of the pictures `[b, d]`, NaN where there is none.
    """

    encoder: QueryEncoder
    sample_rate: int
    mixture: Tensor
    audio: Tensor
    text: Tensor
    image: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        encoder: QueryEncoder,
        reference: Float[Tensor, "b n"],
        *,
        mixture: Float[Tensor, " n"],
        sample_rate: int,
        texts: Sequence[str | None] | None = None,
        images: Sequence[Image.Image | None] | None = None,
    ) -> "SemanticReference":
        """Embed the references, the mixture and the queries.

        Args:
            encoder: any query encoder.
            reference: the targets.
            mixture: the recording.
            sample_rate: Hz.
            texts: the prompt of each target; None where there is none.
            images: the picture of each target; None where there is none.

        Raises:
            ValueError: if there are not as many texts or pictures as targets.
            UsageError: no samples, or a rate below 1 Hz.
        """
        for name, given in (("texts", texts), ("images", images)):
            if given is not None and len(given) != len(reference):
                raise ValueError(f"{len(given)} {name} for {len(reference)} targets.")
        heard = _embed(encoder, torch.cat([reference, mixture[None]]), sample_rate)
        count, width = len(reference), heard.shape[-1]
        text = torch.full((count, width), math.nan, device=heard.device)
        image = text.clone()
        if texts is not None and (rows := [i for i, entry in enumerate(texts) if entry is not None]):
            text[rows] = encoder.embed_text([entry for entry in texts if entry is not None])
        if images is not None and (rows := [i for i, entry in enumerate(images) if entry is not None]):
            image[rows] = encoder.embed_image([entry for entry in images if entry is not None])
        return cls(encoder, sample_rate, heard[-1].nan_to_num(0.0), heard[:-1], text, image)

    @torch.no_grad()
    def scores(self, estimate: Float[Tensor, "b n"]) -> SemanticScores:
        """Score the estimates of the targets, in their order.

        Raises:
            ValueError: if there are not as many estimates as targets.
        """
        if len(estimate) != len(self.audio):
            raise ValueError(f"{len(estimate)} estimates for {len(self.audio)} targets.")
        heard = _embed(self.encoder, estimate, self.sample_rate).nan_to_num(0.0)
        kinds = (self.text, self.audio, self.image)
        text, audio, image = (self._similarity(heard, asked) for asked in kinds)
        return SemanticScores(self.encoder.name, self.encoder.fingerprint, text, audio, image)

    def _similarity(self, heard: Tensor, asked: Tensor) -> Similarity:
        pairs = ((heard * asked).sum(-1), (self.mixture * asked).sum(-1), (self.audio * asked).sum(-1))
        return Similarity(*(value.cpu().clamp(-1.0, 1.0) for value in pairs))


def semantic_scores(
    encoder: QueryEncoder,
    estimate: Float[Tensor, "b n"],
    *,
    reference: Float[Tensor, "b n"],
    mixture: Float[Tensor, " n"],
    sample_rate: int,
    texts: Sequence[str | None] | None = None,
    images: Sequence[Image.Image | None] | None = None,
) -> SemanticScores:
    """Semantic scores of one system; use `SemanticReference` to score several on one mixture.

    Args:
        encoder: any query encoder.
        estimate: separated waveforms.
        reference: the targets in the same order.
        mixture: the recording.
        sample_rate: Hz.
        texts: as in `SemanticReference.of`.
        images: as in `SemanticReference.of`.

    Raises:
        ValueError: if the numbers of estimates, targets and queries differ.
        UsageError: no samples, or a rate below 1 Hz.
    """
    asked = SemanticReference.of(
        encoder, reference, mixture=mixture, sample_rate=sample_rate, texts=texts, images=images
    )
    return asked.scores(estimate)


def _embed(encoder: QueryEncoder, waveforms: Tensor, sample_rate: int) -> Tensor:
    """Embeddings of waveforms in batches; NaN for silent ones, whose embedding would be that of nothing at all."""
    parts = [encoder.embed_audio(part, sample_rate=sample_rate) for part in waveforms.split(_BATCH)]
    embedding = torch.cat(parts)
    return embedding.masked_fill(is_silent(waveforms)[:, None].to(embedding.device), math.nan)
