"""Text models in the layout of sentence-transformers, among them those that read many languages."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor, nn

from marssep.errors import ModelError
from marssep.query.pretrained.folders import read_json
from marssep.query.pretrained.parts import Part
from marssep.query.pretrained.words import Words

_LONGEST = 512  # tokens, where the folder says nothing
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"Identity": lambda states: states, "Tanh": torch.tanh}


class SentencesPart(Part):
    """A BERT-like network, its token states pooled, perhaps a dense layer: words of the languages it was trained on."""

    takes = ("text",)
    model_types = ("bert", "xlm-roberta", "distilbert")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        config: Any = self.model.config
        stated = read_json(self.folder / "sentence_bert_config.json") or {}
        # RoBERTa counts positions from the padding's number on
        first = int(config.pad_token_id) + 1 if config.model_type == "xlm-roberta" else 0
        most = int(config.max_position_embeddings) - first
        self.words = Words(
            self.folder,
            longest=min(most, int(stated.get("max_seq_length") or _LONGEST)),
            padding=int(config.pad_token_id or 0),
        )
        pooling = _module(self.folder, "Pooling")
        self.by_mark = _pools_by_mark(pooling)
        self.dense: nn.Linear | None = None
        self.activation = _ACTIVATIONS["Identity"]
        self.width = int(config.hidden_size if hasattr(config, "hidden_size") else config.dim)
        dense = _module(self.folder, "Dense")
        if dense is not None:
            self._read_dense(dense)

    def _read_dense(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        stated, path = read_json(folder / "config.json") or {}, folder / "model.safetensors"
        name = str(stated.get("activation_function", "")).rpartition(".")[2]
        if name not in _ACTIVATIONS:
            raise ModelError(f"{folder}: a dense layer with '{name}'; known: {', '.join(_ACTIVATIONS)}.")
        try:
            data = path.read_bytes()
            state = {key.removeprefix("linear."): value.float() for key, value in load(data).items()}
            layer = nn.Linear(int(stated["in_features"]), int(stated["out_features"]), bias=bool(stated["bias"]))
            layer.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{path}: no usable dense layer ({cause}); get the model again.") from None
        self.dense, self.activation, self.width = layer.requires_grad_(False), _ACTIVATIONS[name], layer.out_features
        self.digest = hashlib.sha256(self.digest.encode() + data).hexdigest()[:16]

    def text(self, texts: Sequence[str]) -> Float32[Tensor, "b f"]:
        """Unit-norm sentence vectors."""
        numbers, real = (rows.to(self.device) for rows in self.words(texts))
        states: Tensor = self.model(input_ids=numbers, attention_mask=real).last_hidden_state
        if self.by_mark:
            pooled = states[:, 0]
        else:
            kept = real[..., None].to(states.dtype)
            pooled = (states * kept).sum(1) / kept.sum(1).clamp_min(1.0)
        if self.dense is not None:
            pooled = self.activation(self.dense(pooled))
        return F.normalize(pooled, dim=-1)


def _module(folder: Path, kind: str) -> Path | None:
    """Folder of a step of the pipeline, None where there is none."""
    for entry in read_json(folder / "modules.json", of=list) or []:
        if str(entry.get("type", "")).rpartition(".")[2] == kind:
            return folder / str(entry["path"])
    return None


def _pools_by_mark(folder: Path | None) -> bool:
    """Whether the state of the first token is taken, or else the mean of all, as where the folder says nothing."""
    stated = (read_json(folder / "config.json") if folder is not None else None) or {"pooling_mode_mean_tokens": True}
    modes = [name.removeprefix("pooling_mode_") for name, value in stated.items() if value is True and "mode" in name]
    if "pooling_mode" in stated:  # newer files name it
        modes = [str(stated["pooling_mode"])]
    known = {"mean_tokens": False, "mean": False, "cls_token": True, "cls": True}
    if len(modes) != 1 or modes[0] not in known:
        raise ModelError(f"{folder}: pools by {' and '.join(modes) or 'nothing'}; only mean and cls are known.")
    return known[modes[0]]
