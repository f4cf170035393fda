"""The queries of a list as embeddings: every text, recording and picture is embedded once, whoever asks with it."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.mixing import MixtureSpec, QuerySpec
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate import results
from marssep.query import QueryEncoder, fuse
from marssep.query.encoder import MODALITIES, Modality

Progress = Callable[[str, int, int], None]
"""(what is being done, done, total), called from the thread that called."""


class EmbeddedQueries:
    """Embeddings of the queries of a list by every modality that they have.

    Args:
        specs: the mixtures whose queries are embedded, absent ones as well.
        encoder: the one that the model was trained with.
        corpus: where query recordings and pictures are.
        modalities: `composed` needs all three; a modality that nobody asks for is not embedded.
        progress: told of every embedded query.

    Raises:
        CorpusError: if a query's recording or picture is not in the corpus.
    """

    def __init__(
        self,
        specs: Sequence[MixtureSpec],
        encoder: QueryEncoder,
        corpus: Corpus,
        *,
        modalities: Sequence[results.Modality],
        progress: Progress | None = None,
    ) -> None:
        wanted = [modality for modality in MODALITIES if modality in modalities or "composed" in modalities]
        queries = [query for spec in specs for query in all_queries(spec)]
        keys = {modality: _distinct(getattr(query, modality) for query in queries) for modality in wanted}
        total, done = sum(len(names) for names in keys.values()), 0
        self._table: dict[tuple[Modality, str], Tensor] = {}
        for modality, names in keys.items():
            for name in names:
                self._table[modality, name] = _embed(modality, name, encoder, corpus)
                done += 1
                if progress is not None:
                    progress("queries", done, total)

    def embedding(self, query: QuerySpec, modality: results.Modality) -> Float[Tensor, " d"] | None:
        """The embedding of a query asked for in one way, or None if it cannot be asked for so.

        `composed` fuses all modalities that the query has, with the default weights, and needs at least two.
        """
        if modality != "composed":
            return self._table.get((modality, getattr(query, modality) or ""))
        parts = {one: self.embedding(query, one) for one in MODALITIES}
        known = {one: embedding for one, embedding in parts.items() if embedding is not None}
        return fuse(known) if len(known) > 1 else None


def all_queries(spec: MixtureSpec) -> tuple[QuerySpec, ...]:
    """The queries of the sources, then the one for an absent sound if there is one."""
    return spec.queries if spec.absent is None else (*spec.queries, spec.absent)


@torch.inference_mode()
def _embed(modality: Modality, name: str, encoder: QueryEncoder, corpus: Corpus) -> Tensor:
    if modality == "text":
        return encoder.embed_text([name])[0]
    if modality == "image":
        return encoder.embed_image([corpus.image(name)])[0]
    waveform = torch.from_numpy(corpus.audio(name))
    return encoder.embed_audio(waveform[None], sample_rate=CORPUS_RATE)[0]


def _distinct(names: Iterable[str | None]) -> list[str]:
    return sorted({name for name in names if name})
