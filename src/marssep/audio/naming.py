"""Names of the files that are written."""

import re
import unicodedata


def slug(text: str) -> str:
    """Text as a short part of a file name: letters and digits of any script, joined by hyphens."""
    text = unicodedata.normalize("NFC", text).lower()
    return re.sub(r"[^\w]+", "-", text).strip("-_")[:48].rstrip("-_") or "query"
