"""`marssep train align`: train the heads of the query encoder on a corpus."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def align(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    output: Path,
    encoder: str = "open",
    cache: Path | None = None,
    heads: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
) -> None:
    """Stage 1 of the alignment: heads that bring words, sounds and pictures of the same thing together.

    Parameters
    ----------
    corpus
        Folders with a manifest.jsonl.
    output
        Folder for heads.safetensors, heads.json and the retrieval figures, alignment-stage1.json.
    encoder
        Encoder whose heads are trained; its weights must have been fetched.
    cache
        Folder for trunk features, computed once; default: beside the first corpus.
    heads
        With --set only=image: file whose heads of words and sounds stay; default: those of the package.
    set_
        Settings as key=value, for example --set steps=400.
    """
    from marssep.train.align_run import run_alignment

    values = dict(_pair(text) for text in set_ or [])
    run = run_alignment(
        corpus,
        output,
        encoder_name=encoder,
        settings=values,
        cache=cache,
        heads=heads,
        report=print,
    )
    print(f"{run.heads}: validation {run.score:.3f} at step {run.step}; figures in {run.results}")


def _pair(text: str) -> tuple[str, str]:
    from marssep.errors import UsageError

    key, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--set {text}: give it as key=value.")
    return key, value
