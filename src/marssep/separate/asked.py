"""Several queries at once: which rows the network sees, and which of them compete."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.query import Query, QueryEncoder, Readings, embed_query, read_query
from marssep.separate.chunks import Competition
from marssep.separate.excerpts import read_excerpts
from marssep.separate.sources import Source

_SECOND = 16000  # samples of what stands for a region until there is a recording


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries as the network takes them.

    Attributes:
        queries: what was asked for.
        targets: an embedding for each.
        readings: of those that the mixture must settle.
        negatives: embeddings of each query's negatives that work in the logits.
        shares: whether all queries and the rest share the mixture out, so that their masks add up to one.
    """

    queries: tuple[Query, ...]
    targets: Float[Tensor, "t d"]
    readings: tuple[Readings | None, ...]
    negatives: tuple[tuple[Tensor, ...], ...]
    shares: bool = False

    @classmethod
    def of(
        cls, queries: Sequence[Query], encoder: QueryEncoder, *, shares: bool = False, source: Source | None = None
    ) -> "Asked":
        """Embed queries.

        Args:
            queries: what is asked for.
            encoder: gives the embeddings.
            shares: see there.
            source: the recording, for queries by a region of it.

        Raises:
            InputError: if a query's file or region cannot be used.
            UsageError: if a query has weights that do not fit, or a region without a recording.
        """
        with torch.inference_mode():
            readings = tuple(read_query(query, encoder) for query in queries)
            targets = [
                embed_query(query, encoder, excerpts=excerpts) if read is None else read.embedding
                for query, read, excerpts in zip(queries, readings, _excerpts(queries, source), strict=True)
            ]
            negatives = tuple(
                tuple(encoder.embed_text(query.negatives)) if query.negatives and query.negative_in == "logits" else ()
                for query in queries
            )
        return cls(tuple(queries), torch.stack(targets), readings, negatives, shares)

    @classmethod
    def check(cls, queries: Sequence[Query], encoder: QueryEncoder) -> None:
        """Refuse queries that no recording could be asked; their regions are not looked at.

        Raises:
            InputError: if a query's file cannot be used.
            UsageError: if a query has weights that do not fit.
        """
        second = (torch.ones(_SECOND), _SECOND)
        for query in queries:
            with torch.inference_mode():
                embed_query(query, encoder, excerpts=[second] * len(query.regions))

    def rows(self) -> tuple[Float[Tensor, "q d"], Competition]:
        """The embeddings, targets first, and who competes with whom."""
        n_targets = len(self.targets)
        rows, own = list(self.targets), []
        for negatives in self.negatives:
            own.append(tuple(range(len(rows), len(rows) + len(negatives))))
            rows += negatives
        if self.shares:
            everyone = range(len(rows))
            own = [tuple(row for row in everyone if row != index) for index in range(n_targets)]
        return torch.stack(rows), Competition(tuple(range(n_targets)), tuple(own))

    def settled(self, embeddings: dict[int, Tensor]) -> "Asked":
        """With some embeddings replaced, once the mixture has decided between readings."""
        targets = self.targets.clone()
        for index, embedding in embeddings.items():
            targets[index] = embedding
        return replace(self, targets=targets)


def _excerpts(queries: Sequence[Query], source: Source | None) -> Iterator[list[tuple[Tensor, int]]]:
    """Samples and rate of every query's regions."""
    regions = [region for query in queries for region in query.regions]
    if source is None or not regions:
        yield from ([] for _ in queries)
        return
    read = iter(read_excerpts(source, regions))
    for query in queries:
        yield [(next(read), source.sample_rate) for _ in query.regions]
