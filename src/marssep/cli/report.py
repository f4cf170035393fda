"""`marssep report`: print a results file as Markdown tables."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from marssep.errors import UsageError


def report(*results: Path, classes: Annotated[bool, Parameter(negative=(), show_default=False)] = False) -> None:
    """Print what `marssep evaluate` wrote as Markdown tables.

    Args:
        results: Files such as results/open-test.json.
        classes: Add the table of classes.
    """
    if not results:
        raise UsageError("No results file was named; give at least one, such as results/open-test.json.")
    from marssep.evaluate.results import read_results
    from marssep.evaluate.table import markdown

    print("\n".join(markdown(read_results(path), classes=classes) for path in results), end="")
