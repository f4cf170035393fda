"""Names of files: of recordings that are searched for, and of those that are written."""

import re
import unicodedata

EXTENSIONS = frozenset(
    f".{name}"
    for names in (
        "aac aif aifc aiff amr asf au avi caf flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 mts",
        "oga ogg ogv opus rf64 snd ts voc w64 wav wave webm wma wmv wv",
    )
    for name in names.split()
)
"""What folders and shards are searched for; a file that is named is tried whatever its name."""


def slug(text: str) -> str:
    """Text as a short part of a file name: letters and digits of any script, joined by hyphens."""
    text = unicodedata.normalize("NFC", text).lower()
    return re.sub(r"[^\w]+", "-", text).strip("-_")[:48].rstrip("-_") or "query"
