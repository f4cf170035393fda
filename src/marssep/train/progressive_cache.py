"""The rendered separations on disk, a small file a mixture: made once, in any number of sittings."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.model import LoadedModel
from marssep.query import QueryEncoder
from marssep.train.progressive_material import Counts, Separations, make_separations

_FORMAT = 1
_SIGNAL = "signal."


def separations(
    specs: Sequence[MixtureSpec],
    corpus: Corpus,
    makers: tuple[LoadedModel, QueryEncoder],
    folder: Path,
    *,
    counts: Counts,
    progress: Callable[[int, int], None] | None = None,
) -> list[Separations]:
    """Separations of every mixture of a list; what the folder does not have yet is made and kept.

    Args:
        specs: the mixtures; the target of number k is its source k modulo their number.
        corpus: where the recordings are.
        makers: the separator and the encoder it was trained with.
        folder: of the cache; shared by lists, since a file's name is a digest of all that decides its content.
        counts: of separations of each kind.
        progress: called with (done, total).
    """
    model, encoder = makers
    made = []
    for index, spec in enumerate(specs):
        path = folder / f"{_digest(spec, index, model, encoder, counts)}.safetensors"
        found = _read(path)
        if found is None:
            found = make_separations(spec, corpus, model, encoder, counts=counts, seed=index)
            _write(path, found)
        made.append(found)
        if progress is not None:
            progress(index + 1, len(specs))
    return made


def _digest(spec: MixtureSpec, index: int, model: LoadedModel, encoder: QueryEncoder, counts: Counts) -> str:
    parts = [_FORMAT, dataclasses.asdict(spec), index, model.sha256, encoder.fingerprint, dataclasses.asdict(counts)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _write(path: Path, made: Separations) -> None:
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"features": made.features.half(), "grids": made.grids.half(), "si_sdr": made.si_sdr}
    tensors |= {_SIGNAL + name: values for name, values in made.signals.items()}
    texts = {"name": made.name, "label": made.label, "picture": made.picture, "other": made.other}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    blob = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, {**texts, "kinds": " ".join(made.kinds)}
    )
    partial.write_bytes(blob)
    partial.replace(path)


def _read(path: Path) -> Separations | None:
    """What the file holds; None if there is none or it is damaged, since it can be made again."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            texts = dict(opened.metadata())
            tensors: dict[str, torch.Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None
    signals = {name.removeprefix(_SIGNAL): value for name, value in tensors.items() if name.startswith(_SIGNAL)}
    return Separations(
        name=texts["name"],
        label=texts["label"],
        picture=texts["picture"],
        other=texts["other"],
        kinds=tuple(texts["kinds"].split()),
        features=tensors["features"].float(),
        grids=tensors["grids"].float(),
        si_sdr=tensors["si_sdr"],
        signals=signals,
    )
