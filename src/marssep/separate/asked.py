"""Several queries at once: which rows the network sees, and which of them compete."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.query import Query, QueryEncoder, Readings, embed_query, read_query
from marssep.separate.chunks import Competition


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries as the network takes them.

    Attributes:
        queries: what was asked for.
        targets: an embedding for each.
        readings: of those that the mixture must settle.
        negatives: an embedding for each negative that works in the logits; None where there is none.
        shares: whether all queries and the rest share the mixture out, so that their masks add up to one.
    """

    queries: tuple[Query, ...]
    targets: Float[Tensor, "t d"]
    readings: tuple[Readings | None, ...]
    negatives: tuple[Tensor | None, ...]
    shares: bool = False

    @classmethod
    def of(cls, queries: Sequence[Query], encoder: QueryEncoder, *, shares: bool = False) -> "Asked":
        """Embed queries.

        Raises:
            InputError: if a query's file cannot be used.
        """
        with torch.inference_mode():
            readings = tuple(read_query(query, encoder) for query in queries)
            targets = [
                embed_query(query, encoder) if read is None else read.embedding
                for query, read in zip(queries, readings, strict=True)
            ]
            negatives = tuple(
                encoder.embed_text([query.negative])[0] if query.negative and query.negative_in == "logits" else None
                for query in queries
            )
        return cls(tuple(queries), torch.stack(targets), readings, negatives, shares)

    def rows(self) -> tuple[Float[Tensor, "q d"], Competition]:
        """The embeddings, targets first, and who competes with whom."""
        n_targets = len(self.targets)
        rows, at = list(self.targets), {}
        for index, negative in enumerate(self.negatives):
            if negative is not None:
                at[index] = len(rows)
                rows.append(negative)
        own: list[tuple[int, ...]] = [(at[index],) if index in at else () for index in range(n_targets)]
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
