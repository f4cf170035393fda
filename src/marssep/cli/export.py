"""`marssep export`: a model as ONNX graphs for `marssep.runtime`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def export(
    model: str = "default",
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    text: list[str] | None = None,
    text_encoder: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    image_encoder: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> None:
    """Write a model as ONNX graphs with one JSON file of all other numbers, for `marssep runtime` and other languages.

    Args:
        model: A shipped model's name or a model folder.
        output: Folder; made if missing.
        text: A query whose embedding is stored (repeatable).
        text_encoder: Export the text encoder too, so that any words can be asked (90 MB more).
        image_encoder: Export the image encoder too, so that any picture can be asked (36 MB more).
    """
    from marssep.export import ExportSettings, export_model
    from marssep.separate import Separator

    texts = tuple(dict.fromkeys(text or ()))
    settings = ExportSettings(texts=texts, text_encoder=text_encoder, image_encoder=image_encoder)
    export_model(Separator.load(model), output, settings=settings, report=print)
    print(f"{output}: ready; separate with 'marssep runtime {output} RECORDING --text ...'")
