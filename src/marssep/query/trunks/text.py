"""MiniLM-L6: text to a 384-d sentence vector, by `tokenizers` and torch's own transformer layers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from marssep.errors import ModelError

_WORDS = 30522
_POSITIONS = 512
_WIDTH = 384
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_MAX_TOKENS = 256  # the length sentence-transformers cuts this model's input at


class TextTrunk(nn.Module):
    """BERT encoder (post-norm, GELU) with mean pooling over the tokens.

    Parity with `transformers` 4.57.1 on 60 sentences of 1 to 60 tokens in one padded batch: see docs/encoders.md.
    """

    n_features = _WIDTH

    def __init__(self, tokenizer_path: Path) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{tokenizer_path}: damaged ({error}); run 'marssep models fetch open --force'.") from None
        self._tokenizer.no_padding()  # the file pads everything to 128 tokens
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self.words = nn.Embedding(_WORDS, _WIDTH, padding_idx=0)
        self.positions = nn.Parameter(torch.zeros(_POSITIONS, _WIDTH))  # the segment embedding is folded into it
        self.norm = nn.LayerNorm(_WIDTH, eps=_EPSILON)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 4 * _WIDTH, dropout=0.0, activation="gelu", layer_norm_eps=_EPSILON, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)

    def tokens(self, texts: Sequence[str]) -> Int64[Tensor, "b t"]:
        """Token numbers, padded with 0 to the longest text."""
        rows = [torch.tensor(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def forward(self, tokens: Int64[Tensor, "b t"]) -> Float32[Tensor, "b 384"]:
        """Mean of the token states, padding left out."""
        real = tokens != 0
        states = self.norm(self.words(tokens) + self.positions[: tokens.shape[1]])
        states = self.layers(states, src_key_padding_mask=~real)
        weights = real.unsqueeze(-1).to(states.dtype)
        # after the fast path padded rows may hold anything, so they are selected away instead of multiplied by 0
        pooled: Tensor = torch.where(real.unsqueeze(-1), states, states.new_zeros(())).sum(1) / weights.sum(1)
        return pooled


def convert_text_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a Hugging Face BERT checkpoint to those of `TextTrunk`."""
    made = {
        "words.weight": state["embeddings.word_embeddings.weight"],
        "positions": state["embeddings.position_embeddings.weight"]
        + state["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": state["embeddings.LayerNorm.weight"],
        "norm.bias": state["embeddings.LayerNorm.bias"],
    }
    names = {
        "attention.output.dense": "self_attn.out_proj",
        "attention.output.LayerNorm": "norm1",
        "intermediate.dense": "linear1",
        "output.dense": "linear2",
        "output.LayerNorm": "norm2",
    }
    for layer in range(_LAYERS):
        old, new = f"encoder.layer.{layer}", f"layers.layers.{layer}"
        for kind in ("weight", "bias"):
            parts = [state[f"{old}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            made[f"{new}.self_attn.in_proj_{kind}"] = torch.cat(parts)
            for theirs, ours in names.items():
                made[f"{new}.{ours}.{kind}"] = state[f"{old}.{theirs}.{kind}"]
    return made
