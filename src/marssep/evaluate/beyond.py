"""Figures beyond the signal's own as parts of an evaluation: likeness by a query encoder, and an independent judge."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.mixing import QuerySpec
from marssep.evaluate.judge import Judge, judge_scores
from marssep.evaluate.material import Rendered, digest_of
from marssep.evaluate.semantic import SemanticReference
from marssep.query import QueryEncoder


@dataclass(frozen=True, slots=True)
class SemanticScorer:
    """`text_score` and `audio_score`: cosines of the estimate with the words asked for and with the target.

    Attributes:
        encoder: who listens; the model's own encoder favours the model.
    """

    encoder: QueryEncoder

    @property
    def identity(self) -> str:
        """Of the encoder's weights."""
        return f"semantic {self.encoder.name} {self.encoder.fingerprint}"

    def figures(
        self,
        rendered: Rendered,
        estimate: Float[Tensor, "q n"],
        *,
        indices: Sequence[int],
        queries: Sequence[QuerySpec],
    ) -> list[dict[str, float]]:
        """The two fields for each estimate; what it is compared with is embedded once for all systems."""
        key = (self.identity, *indices)
        if key not in rendered.prepared:
            rendered.prepared[key] = SemanticReference.of(
                self.encoder,
                rendered.sources[list(indices)],
                mixture=rendered.mixture,
                sample_rate=rendered.sample_rate,
                texts=[query.text for query in queries],
            )
        scores = rendered.prepared[key].scores(estimate)
        pairs = zip(scores.text.estimate.tolist(), scores.audio.estimate.tolist(), strict=True)
        return [{"text_score": text, "audio_score": audio} for text, audio in pairs]


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """`judge`: how alike estimate and target are in the ears of a network that nothing here was trained with.

    Attributes:
        judge: from `load_judge`.
    """

    judge: Judge

    @property
    def identity(self) -> str:
        """Of the judge's weights, as far as their sums tell."""
        return digest_of("judge", [float(p.detach().double().sum()) for p in self.judge.parameters()])

    def figures(
        self,
        rendered: Rendered,
        estimate: Float[Tensor, "q n"],
        *,
        indices: Sequence[int],
        queries: Sequence[QuerySpec],
    ) -> list[dict[str, float]]:
        """The field for each estimate."""
        with torch.no_grad():
            scores = judge_scores(
                self.judge,
                estimate,
                reference=rendered.sources[list(indices)],
                mixture=rendered.mixture,
                sample_rate=rendered.sample_rate,
            )
        return [{"judge": value} for value in scores.estimate.tolist()]
