"""Programs that are one process, and say so to a launcher of several."""

import os

from marssep.errors import UsageError


def refuse_company(program: str) -> None:
    """Refuse to run as one of several processes, which would all do the same and write over each other.

    Raises:
        UsageError: if a launcher has started several.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        raise UsageError(
            f"{program} trains small heads on cached features, minutes on one processor, and is one process; start it "
            f"without the launcher (here: {size} processes)."
        )
