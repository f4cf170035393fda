"""`marssep data embed`: the embeddings of a corpus as a file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def embed(
    *,
    corpus: list[Path],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    encoder: str = "open",
    split: list[str] | None = None,
) -> None:
    """Embed recordings, pictures and captions once, for `marssep train supervised --embeddings` on another machine.

    Args:
        corpus: Folder with a manifest (repeatable).
        output: File to write, safetensors.
        encoder: Query encoder; that of the model to be trained.
        split: Only recordings and pictures of this split (repeatable); all if not given.
    """
    from marssep.corpus.store import Corpus
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder

    recordings = Corpus.open(corpus)
    bank = EmbeddingBank.build(recordings, load_encoder(encoder), corpus[0].parent / ".features")
    if split:
        bank = bank.only({item.id for item in recordings.items if item.split in split})
    bank.save(output)
    counts = f"{len(bank.of_audio)} recordings, {len(bank.of_image)} pictures and {len(bank.of_text)} captions"
    print(f"{output}: {counts} by encoder '{encoder}'")
