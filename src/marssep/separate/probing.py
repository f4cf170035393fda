"""Is a sound in a recording, and where? Presence, and confidence and resemblance over time; nothing is separated."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.metrics import is_silent
from marssep.query import Query, QueryEncoder, describe_region
from marssep.separate.asked import Asked
from marssep.separate.naming import describe_query
from marssep.separate.progress import Watch
from marssep.separate.sources import Source
from marssep.separate.streaming import Stream

if TYPE_CHECKING:
    from marssep.separate.separator import Separator

LIKELY = 0.5
"""Confidence from which a second belongs to a stretch."""
_AROUND = 0.5  # seconds on either side of a second that are listened to with it: one alone is short for the encoder


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring seconds in which a sound is likely.

    Attributes:
        begin: seconds.
        end: seconds.
        confidence: the highest in it.
    """

    begin: float
    end: float
    confidence: float

    def __str__(self) -> str:
        return describe_region((self.begin, self.end))


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of one query to one recording.

    Attributes:
        query: in words, as sidecars have it.
        presence: probability that the sound is in the recording.
        present: whether that reached the threshold.
        threshold: of the model.
        confidence: probability that the sound can be heard, for every second.
        similarity: cosine between the query and what the encoder hears in the recording around every second, in
            [-1, 1]; None in silence.
        duration: of the recording, seconds.
    """

    query: dict[str, Any]
    presence: float
    present: bool
    threshold: float
    confidence: tuple[float, ...]
    similarity: tuple[float | None, ...]
    duration: float

    @property
    def where(self) -> tuple[Stretch, ...]:
        """Stretches in which the sound is likely, in order."""
        made: list[Stretch] = []
        for second, confidence in enumerate(self.confidence):
            end = min(second + 1.0, self.duration)
            if confidence < LIKELY:
                continue
            if made and made[-1].end == second:
                made[-1] = Stretch(made[-1].begin, end, max(made[-1].confidence, confidence))
            else:
                made.append(Stretch(float(second), end, confidence))
        return tuple(made)

    @property
    def surest(self) -> Stretch:
        """The second with the highest confidence."""
        best = max(range(len(self.confidence)), key=lambda second: self.confidence[second])
        return Stretch(float(best), min(best + 1.0, self.duration), self.confidence[best])

    def row(self) -> dict[str, Any]:
        """In JSON's terms."""
        return {
            "query": self.query,
            "presence": round(self.presence, 6),
            "present": self.present,
            "presence_threshold": self.threshold,
            "duration": self.duration,
            "where": [[each.begin, round(each.end, 3), round(each.confidence, 3)] for each in self.where],
            "confidence": [round(each, 3) for each in self.confidence],
            "similarity": [None if each is None else round(each, 4) for each in self.similarity],
        }


@dataclass(slots=True)
class SecondEmbeddings:
    """What the encoder hears around every second of a recording that comes in pieces.

    Attributes:
        encoder: listens.
        sample_rate: Hz.
    """

    encoder: QueryEncoder
    sample_rate: int
    _made: list[Tensor | None] = field(default_factory=list)
    _held: Tensor = field(default_factory=lambda: torch.zeros(0))
    _first: int = 0  # sample that `_held` begins with

    def push(self, piece: Float[Tensor, "c _"]) -> None:
        """Take the next samples."""
        self._held = torch.cat([self._held, piece.float().mean(0)])
        around = round(_AROUND * self.sample_rate)
        while self._first + len(self._held) >= (len(self._made) + 1) * self.sample_rate + around:
            self._listen()

    def finish(self) -> list[Tensor | None]:
        """Embeddings `[d]` of all seconds; None for silent ones."""
        while len(self._made) * self.sample_rate < self._first + len(self._held):
            self._listen()
        return self._made

    def _listen(self) -> None:
        rate, around, second = self.sample_rate, round(_AROUND * self.sample_rate), len(self._made)
        begin = max(0, second * rate - around) - self._first
        excerpt = self._held[begin : (second + 1) * rate + around - self._first]
        silent = bool(is_silent(excerpt))
        self._made.append(None if silent else self.encoder.embed_audio(excerpt[None], sample_rate=rate)[0])
        kept = max(0, (second + 1) * rate - around) - self._first
        self._held, self._first = self._held[kept:].clone(), self._first + kept


@torch.inference_mode()
def probe(
    separator: "Separator", source: Source, queries: Sequence[Query], *, watch: Watch | None = None
) -> list[Probe]:
    """Ask where sounds are, in constant memory; nothing is written.

    Args:
        separator: model and encoder.
        source: the recording.
        queries: what is asked for, all in one pass.
        watch: called on the way; may cancel.

    Raises:
        InputError: if the recording or the queries' files or regions cannot be used.
        CancelledError: if the watch says so.
    """
    asked = Asked.of(queries, separator.encoder, source=source)
    heard = SecondEmbeddings(separator.encoder, source.sample_rate)
    with Stream(source, separator.model, separator.encoder, asked, watch=watch) as stream:
        stream.propose()
        stream.adapt()
        for part in stream.render(range(len(queries)), listening=True):
            heard.push(part.mixture)
        verdicts = stream.verdicts(gate=False)
        targets = stream.asked.targets  # pictures have been settled by now
    embeddings = heard.finish()
    return [
        Probe(
            describe_query(query),
            verdict.presence,
            verdict.present,
            separator.model.config.presence_threshold,
            tuple(verdict.confidence),
            tuple(None if each is None else float(each @ target) for each in embeddings),
            stream.length / source.sample_rate,
        )
        for query, verdict, target in zip(queries, verdicts, targets, strict=True)
    ]
