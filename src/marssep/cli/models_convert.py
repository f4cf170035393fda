"""`marssep models convert`: somebody's checkpoint to safetensors, without running anything from it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def convert(source: Path, *, output: Annotated[Path, Parameter(name=["--output", "-o"])]) -> None:
    """Make safetensors of a checkpoint (.pt, .pth, .ckpt, .bin); one that could run code is refused.

    Args:
        source: Checkpoint, or a model's folder with one; the folder's JSON files come along.
        output: Folder to make.
    """
    from marssep.query.pretrained.convert import convert as convert_checkpoint

    made = convert_checkpoint(source, output)
    left = f", left out: {', '.join(made.left_out[:8])}" if made.left_out else ""
    print(f"{made.folder}: {made.tensors} tensors{left}")
