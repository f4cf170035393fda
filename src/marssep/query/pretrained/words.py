"""Words to token numbers by a model's `tokenizer.json` alone: no tokenizer class is chosen by a file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from marssep.errors import ModelError


class Words:
    """Cuts texts into tokens, pads them with one number and knows which are real."""

    def __init__(self, folder: Path, *, longest: int, padding: int, whole: bool = False) -> None:
        """Read the tokenizer.

        Args:
            folder: of the model.
            longest: tokens; longer texts are cut.
            padding: token number of what is filled in.
            whole: fill every text up to `longest`, not to the longest of the batch.

        Raises:
            ModelError: the folder has no usable `tokenizer.json`.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{path}: missing; transformers writes it with AutoTokenizer.from_pretrained(F).save_pretrained(F)."
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise ModelError(f"{path}: not a tokenizer ({error}); get the model again.") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        self.longest, self.padding, self.whole = longest, padding, whole

    def __call__(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
        """Token numbers, and 1 where they are real."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        width = self.longest if self.whole else max(1, *(len(row) for row in rows))
        numbers = torch.full((len(rows), width), self.padding)
        real = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            numbers[index, : len(row)] = torch.tensor(row)
            real[index, : len(row)] = 1
        return numbers, real
