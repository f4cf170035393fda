"""`marssep data example`: render the included example again."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def example(
    *,
    corpus: list[Path],
    mixtures: str | None = None,
    id: str | None = None,  # the mixture's own word for its name
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Render one mixture of a list with its target and credits, as the included example was made.

    Args:
        corpus: Corpus folder (repeatable).
        mixtures: A mixture list, by name or file; by default the line that the included example was made from.
        id: Which mixture of the list; by default its first.
        output: Folder to write; by default that of the included example.
    """
    from marssep.corpus.example import SPEC, build_example
    from marssep.corpus.lists import read_list
    from marssep.corpus.store import Corpus
    from marssep.errors import UsageError

    folder = Path(__file__).parent.parent / "examples"
    specs = read_list(mixtures or str(folder / SPEC))
    chosen = [spec for spec in specs if id is None or spec.id == id]
    if not chosen:
        raise UsageError(f"'{id}': the list has no such mixture; its first is '{specs[0].id}'.")
    build_example(chosen[0], Corpus.open(corpus), output or folder)
    print(output or folder)
