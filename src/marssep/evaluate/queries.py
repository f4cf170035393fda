"""The queries of a protocol as embeddings: every text, recording and picture is embedded once, whoever asks with it."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.corpus.mixing import QuerySpec
from marssep.evaluate import results
from marssep.evaluate.material import Material, Task
from marssep.query import MODALITIES, Modality, QueryEncoder, Readings, fuse

Progress = Callable[[str, int, int], None]
"""(what is being done, done, total), called from the thread that called."""


class EmbeddedQueries:
    """Embeddings of queries by every modality that they have; a recording or picture that is missing gives none.

    Args:
        encoder: the one that the model was trained with.
        material: where query recordings and pictures are.
        modalities: `composed` needs all three; a modality that nobody asks for is not embedded.
    """

    def __init__(self, encoder: QueryEncoder, material: Material, *, modalities: Sequence[results.Modality]) -> None:
        self._encoder, self._material = encoder, material
        self._wanted = [modality for modality in MODALITIES if modality in modalities or "composed" in modalities]
        self._table: dict[tuple[Modality, str], Tensor] = {}
        self._readings: dict[str, Readings] = {}

    def add(self, tasks: Iterable[Task], *, jobs: int = 1, progress: Progress | None = None) -> None:
        """Embed what these mixtures are asked by and is not embedded yet."""
        queries = [query for task in tasks for query in task.all_queries]
        keys = [
            (modality, key)
            for modality in self._wanted
            for key in sorted({getattr(query, modality) or "" for query in queries} - {""})
            if (modality, key) not in self._table and (modality == "text" or self._material.has(key))
        ]
        with ThreadPoolExecutor(jobs) as pool:
            for done, (name, made) in enumerate(zip(keys, pool.map(self._embed, keys), strict=True), start=1):
                self._table[name] = made
                if progress is not None:
                    progress("queries", done, len(keys))

    def embedding(self, query: QuerySpec, modality: results.Modality) -> Float[Tensor, " d"] | None:
        """The embedding of a query asked for in one way, or None if it cannot be asked for so.

        `composed` fuses all modalities that the query has, with the default weights, and needs at least two.
        """
        if modality != "composed":
            return self._table.get((modality, getattr(query, modality) or ""))
        parts = {one: self.embedding(query, one) for one in MODALITIES}
        known = {one: embedding for one, embedding in parts.items() if embedding is not None}
        return fuse(known) if len(known) > 1 else None

    def asked(self, query: QuerySpec, modality: results.Modality) -> Tensor | Readings | None:
        """As `embedding`; what a picture alone may show where the encoder guesses, as a user's picture is treated."""
        if modality == "image" and query.image in self._readings:
            return self._readings[query.image]
        return self.embedding(query, modality)

    @torch.inference_mode()
    def _embed(self, named: tuple[Modality, str]) -> Tensor:
        modality, key = named
        if modality == "text":
            return self._encoder.embed_text([key])[0]
        if modality == "image":
            pictures = self._material.pictures(key)
            readings = self._encoder.read_images(pictures)
            if readings is not None:
                self._readings[key] = readings
                return readings.embedding
            return _mean([self._encoder.embed_image([picture])[0] for picture in pictures])
        waveforms = [(torch.from_numpy(waveform)[None], rate) for waveform, rate in self._material.recordings(key)]
        return _mean([self._encoder.embed_audio(waveform, sample_rate=rate)[0] for waveform, rate in waveforms])


def _mean(embeddings: Sequence[Tensor]) -> Tensor:
    """One embedding as it is; several as their mean on the unit sphere, as the ancestors average three frames."""
    return embeddings[0] if len(embeddings) == 1 else F.normalize(torch.stack(list(embeddings)).mean(0), dim=0)
