"""`marssep train align`: train the heads of the query encoder, then those of the reward encoder, on a corpus."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def align(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    output: Path,
    stage: Literal["1", "2", "3", "all"] = "1",
    encoder: str = "open",
    cache: Path | None = None,
    heads: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
) -> None:
    """Align words, sounds and pictures: stage 1 makes the query encoder's heads, 2 and 3 those of the reward encoder.

    Parameters
    ----------
    corpus
        Folders with a manifest.jsonl.
    output
        Folder for heads.safetensors, heads.json and the retrieval figures, alignment-stage1.json.
    stage
        1: words and sounds (and pictures). 2: recordings with recordings, and separations with their quality; starts
        from the heads of the package and writes OUTPUT/stage2. 3: recordings with pictures; starts from OUTPUT/stage2
        and writes OUTPUT/stage3. all: 2 and 3.
    encoder
        Encoder whose heads are trained; its weights must be there. Several models are joined by
        transformers:clap=FOLDER,clip=FOLDER (docs/encoders.md).
    cache
        Folder for trunk features, computed once; default: beside the first corpus.
    heads
        Stage 1 with --set only=image: file whose heads of words and sounds stay; default: those of the package.
    set_
        Settings as key=value, for example --set steps=400, in later stages --set stage2.steps=400.
    """
    from marssep.train.alone import refuse_company

    refuse_company("marssep train align")
    if stage != "1":
        _later_stages(corpus, output, stage, set_ or [])
        return
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


def _later_stages(corpus: list[Path], output: Path, stage: Literal["2", "3", "all"], pairs: list[str]) -> None:
    from marssep.train.progressive_run import run_progressive

    values: dict[str, Any] = {}
    for key, value in (_pair(text) for text in pairs):
        *parents, last = key.split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    run = run_progressive(corpus, output, stage=stage, settings=values, report=print)
    for result, folder in zip(run.results, run.folders.values(), strict=True):
        print(f"{folder}: stage {result.stage}, validation {result.score:.3f} at step {result.step}")


def _pair(text: str) -> tuple[str, str]:
    from marssep.errors import UsageError

    key, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--set {text}: give it as key=value.")
    return key, value
