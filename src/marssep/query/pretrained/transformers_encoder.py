"""The encoder `transformers:KIND=PLACE,...`: one joint model as it is, or several joined by heads that we train."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.errors import UsageError
from marssep.query.encoder import QueryEncoder
from marssep.query.heads import PlainHead, ProjectionHead
from marssep.query.pretrained.parts import Part
from marssep.query.pretrained.table import PARTS
from marssep.runtime.fusing import MODALITIES, Modality

DIMENSION = 512
"""Of the space that heads join several models in."""


class TransformersEncoder(QueryEncoder):
    """Parts in the order of the specification; a modality is taken by the first part that has a tower for it.

    With a single part the space is that part's. Several, and one whose towers share no space, have a `ProjectionHead`
    for each modality, which must be trained (`marssep train align --encoder SPECIFICATION`) and named by `heads=FILE`.
    """

    name = "transformers"

    def __init__(self, stated: str) -> None:
        """Load the parts.

        Args:
            stated: `KIND=PLACE,...` with kinds of `PARTS`, and `heads=FILE` for trained heads.

        Raises:
            UsageError: not such a list.
            ModelError: a part cannot be loaded.
        """
        places = _parse(stated)
        heads_path = places.pop("heads", None)
        parts = {kind: PARTS[kind](place) for kind, place in places.items()}
        taken = {modality: _first(parts, modality) for modality in MODALITIES}
        used = {modality: part for modality, part in taken.items() if part is not None}
        joined = len(parts) > 1 or not all(part.one_space for part in parts.values())
        heads = _new_heads({modality: part.width_of(modality) for modality, part in used.items()}, joined=joined)
        dimension = DIMENSION if joined else next(iter(parts.values())).width
        weights = hashlib.sha256("".join(f"{kind} {part.digest}\n" for kind, part in parts.items()).encode())
        trunks = f"{self.name}-{weights.hexdigest()[:16]}"
        super().__init__(dimension, heads, f"{trunks}-untrained" if joined else trunks)
        self.name, self.trunks = f"{type(self).name}:{stated}", trunks
        self.parts = nn.ModuleDict({kind.replace("-", "_"): part for kind, part in parts.items()})
        self.joined = joined
        self.heads_path = Path(heads_path).expanduser() if heads_path else None
        self._kind_of = {
            modality: kind.replace("-", "_") for modality in used for kind in parts if parts[kind] is used[modality]
        }

    @property
    def needs_heads(self) -> bool:
        """Whether its parts lie in different spaces until heads are loaded."""
        return self.joined

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """What the part for words makes of them."""
        return self._part("text").text(texts)

    def audio_features(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """What the part for sounds makes of them."""
        return self._part("audio").audio(waveform, sample_rate)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """What the part for pictures makes of them."""
        return self._part("image").image(images)

    def _part(self, modality: Modality) -> Part:
        if modality not in self._kind_of:
            able = " or ".join(kind for kind, made in PARTS.items() if modality in getattr(made, "takes", ()))
            raise UsageError(
                f"The encoder '{self.name}' has no part for {modality}; add one ({able}), or ask otherwise."
            )
        part = self.parts[self._kind_of[modality]]
        assert isinstance(part, Part)
        return part


def _parse(stated: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in stated.split(",") if pair.strip()]
    found = {key.strip(): place.strip() for key, _, place in pairs}
    kinds = [key for key in found if key != "heads"]
    if not kinds or len(found) != len(pairs) or not all(found.values()):
        raise UsageError(
            f"transformers:{stated}: give the parts as KIND=PLACE, each once, such as transformers:clap=FOLDER; "
            f"kinds: {', '.join(PARTS)}."
        )
    if unknown := [kind for kind in kinds if kind not in PARTS]:
        raise UsageError(f"transformers:{stated}: no part is called '{unknown[0]}'; known: {', '.join(PARTS)}, heads.")
    return found


def _first(parts: dict[str, Part], modality: Modality) -> Part | None:
    return next((part for part in parts.values() if modality in part.takes), None)


def _new_heads(widths: dict[Modality, int], *, joined: bool) -> dict[str, nn.Module]:
    if not joined:
        return {modality: PlainHead(width) for modality, width in widths.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {modality: ProjectionHead(width, DIMENSION) for modality, width in widths.items()}
