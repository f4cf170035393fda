"""Embeddings of every recording, picture and caption of a corpus, ready for training."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from marssep.errors import CorpusError
from marssep.query.encoder import QueryEncoder
from marssep.query.features import QueryCorpus, TrunkFeatures, read_arrays, write_arrays
from marssep.runtime.fusing import MODALITIES, Modality

_LOG = logging.getLogger(__name__)
_BATCH = 1024


@dataclass(frozen=True)
class EmbeddingBank:
    """Unit-norm float16 embeddings by item and caption.

    Attributes:
        of_audio: item id -> `[k, d]`; the first row is the whole recording, the others are parts of it.
        of_image: item id -> `[1, d]`.
        of_text: caption -> `[d]`.
        modalities: that the encoder takes; the tables of others are empty.
    """

    of_audio: Mapping[str, np.ndarray]
    of_image: Mapping[str, np.ndarray]
    of_text: Mapping[str, np.ndarray]
    modalities: tuple[Modality, ...] = MODALITIES

    @classmethod
    def build(
        cls,
        corpus: QueryCorpus,
        encoder: QueryEncoder,
        cache_path: Path | str,
        *,
        sample_rate: int = 32000,
        progress: Callable[[int, int], None] | None = None,
    ) -> "EmbeddingBank":
        """Compute the bank, or read it if this corpus and these heads were seen before.

        Args:
            corpus: its recordings, pictures and captions are embedded.
            encoder: its fingerprint is part of the key.
            cache_path: folder for the bank and the trunk features (about 13 kB a recording).
            sample_rate: of `corpus.audio`, Hz.
            progress: called with (done, total) items while trunk features are computed, the slow part.
        """
        cache = Path(cache_path)
        path = cache / f"bank-{encoder.fingerprint}-{_digest(corpus)}.safetensors"
        known = read_arrays(path)
        if not any(known.values()):
            features = TrunkFeatures.build(corpus, encoder, cache, sample_rate=sample_rate, progress=progress)
            known = _embed(corpus, encoder, features)
            write_arrays(path, known)
            _LOG.info("embedding bank written to %s", path)
        return cls(known["audio"], known["image"], known["text"], encoder.modalities)

    @classmethod
    def read(cls, path: Path) -> "EmbeddingBank":
        """A bank that was saved, for machines that have no encoder.

        Raises:
            CorpusError: if the file is no bank.
        """
        tables = read_arrays(path)
        if not tables["text"]:
            raise CorpusError(f"{path}: holds no embeddings; write it with `marssep data embed`.")
        # What the encoder did not take was never embedded; words always are.
        kinds = tuple(kind for kind in MODALITIES if tables[kind])
        return cls(tables["audio"], tables["image"], tables["text"], kinds)

    def only(self, ids: Collection[str]) -> "EmbeddingBank":
        """The part of some items, with all captions."""
        audio, image = ({id: table[id] for id in table if id in ids} for table in (self.of_audio, self.of_image))
        return replace(self, of_audio=audio, of_image=image)

    def save(self, path: Path) -> None:
        """Write it as safetensors, at once or not at all."""
        write_arrays(path, {"audio": self.of_audio, "image": self.of_image, "text": self.of_text})

    def audio(self, item_id: str) -> np.ndarray:
        """`[k, d]` float16: the whole recording, then parts of it."""
        return _find(self.of_audio, item_id, "recording")

    def image(self, item_id: str) -> np.ndarray:
        """`[1, d]` float16."""
        return _find(self.of_image, item_id, "picture")

    def text(self, caption: str) -> np.ndarray:
        """`[d]` float16."""
        return _find(self.of_text, caption, "caption")


def _find(table: Mapping[str, np.ndarray], key: str, what: str) -> np.ndarray:
    if key not in table:
        raise CorpusError(f"The embedding bank has no {what} '{key}'; build it for the corpus that has it.")
    return table[key]


def _digest(corpus: QueryCorpus) -> str:
    digest = hashlib.sha256()
    for item in sorted(corpus.items, key=lambda item: str(item.id)):
        digest.update(f"{item.id} {item.sha256} {'|'.join(item.captions)}\n".encode())
    return digest.hexdigest()[:16]


def _embed(corpus: QueryCorpus, encoder: QueryEncoder, features: TrunkFeatures) -> dict[str, dict[str, np.ndarray]]:
    made: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in MODALITIES}
    tables: dict[Modality, dict[str, np.ndarray]] = {"audio": features.audio, "image": features.image}
    for kind, table in tables.items():
        if kind not in encoder.modalities:
            continue
        items = [item for item in corpus.items if item.kind == kind]
        rows = _project(encoder, kind, [table[item.sha256] for item in items])
        made[kind] = dict(zip([item.id for item in items], rows, strict=True))
    if "text" not in encoder.modalities:
        return made
    captions = sorted({caption for item in corpus.items for caption in item.captions})
    rows = _project(encoder, "text", [features.text[caption] for caption in captions])
    made["text"] = dict(zip(captions, rows, strict=True))
    return made


@torch.no_grad()
def _project(encoder: QueryEncoder, modality: Modality, rows: list[np.ndarray]) -> np.ndarray:
    if not rows:
        return np.zeros((0, encoder.dimension), np.float16)
    stacked = np.stack(rows)
    flat = torch.from_numpy(stacked.reshape(-1, stacked.shape[-1])).float().to(encoder.device)
    parts = [encoder.heads[modality](part).cpu().half() for part in flat.split(_BATCH)]
    return torch.cat(parts).numpy().reshape(*stacked.shape[:-1], -1)
