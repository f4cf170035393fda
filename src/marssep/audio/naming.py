"""Names of the files that are written."""

import re


def slug(text: str) -> str:
    """Text as a short part of a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-_")[:48].rstrip("-_") or "query"
