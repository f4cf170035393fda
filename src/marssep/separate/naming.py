"""Names of results: a template filled in by plain replacement, safe in any script, never two alike in one run."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marssep.audio import Audio, slug
from marssep.errors import UsageError
from marssep.query import Query, describe_region

DEFAULT_TEMPLATE = "{folder}/{name}.{query}.{part}"
FIELDS = ("folder", "name", "query", "part")
"""What a template may hold: the input's folder below the one that was named, its name without extension, the query, and
`target` or `residual`."""

_PART = re.compile(r"(?P<joint>[._-]?)\{part\}")
_LONGEST = 255 - len(".partial")  # bytes of a file name that every file system takes


@dataclass(frozen=True, slots=True)
class ResultPaths:
    """Where the results of one query to one recording go.

    Attributes:
        target: the sound.
        residual: everything else; in `shares`, one file for all queries.
        sidecar: JSON; written last.
        picture: PNG.
    """

    target: Path
    residual: Path
    sidecar: Path
    picture: Path


class Naming:
    """Gives every result of a run a name of its own; the same inputs in the same order get the same names.

    Args:
        folder: under which all results lie.
        template: see `FIELDS`; may hold slashes. `.wav`, `.json` and `.png` are added. Sidecars and pictures are named
            like the target without its part.

    Raises:
        UsageError: if the template lacks `{part}` or has an unknown field.
    """

    def __init__(self, folder: str | os.PathLike[str], template: str = DEFAULT_TEMPLATE) -> None:
        unknown = [name for name in re.findall(r"\{([^{}]*)\}", template) if name not in FIELDS]
        if unknown:
            raise UsageError(f"The template has an unknown field '{{{unknown[0]}}}'; known: {', '.join(FIELDS)}.")
        if len(_PART.findall(template)) != 1:
            raise UsageError("The template needs {part} once, or target and residual would have one name.")
        self._folder = Path(folder)
        self._template = template.removesuffix(".wav")
        self._taken: set[str] = set()

    def paths(
        self, recording: str | os.PathLike[str], queries: Sequence[Query], *, below: str = "", shares: bool = False
    ) -> tuple[ResultPaths, ...]:
        """Names for all queries to a recording.

        Args:
            recording: the input.
            queries: what is asked for.
            below: folder of the input below the folder that was named.
            shares: give one residual to all of them.
        """
        name = Path(recording).stem or "recording"
        bases = [self._base(name, query_slug(describe_query(query)), below) for query in queries]
        rests = [self._base(name, "rest", below)] * len(bases) if shares else bases
        return tuple(
            ResultPaths(
                self._path(base, "target", ".wav"),
                self._path(rest, "residual", ".wav"),
                self._path(base, "", ".json"),
                self._path(base, "", ".png"),
            )
            for base, rest in zip(bases, rests, strict=True)
        )

    def _base(self, name: str, query: str, below: str) -> str:
        """The template with all but the part filled in, and a number if that was given before."""
        number = 1
        while True:
            base = self._filled(name, query, below, "" if number == 1 else f"-{number}")
            key = unicodedata.normalize("NFC", base).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return base
            number += 1

    def _filled(self, name: str, query: str, below: str, suffix: str) -> str:
        made = self._template.replace("{query}", query)
        made = made.replace("{folder}", below.replace("{", "(").replace("}", ")"))
        head, tail = os.path.split(re.sub(r"/+", "/", made).lstrip("/"))
        part = _PART.search(tail)
        at = part.start() if part else len(tail)
        tail = tail[:at] + suffix + tail[at:]
        room = _LONGEST - len(tail.replace("{name}", "").replace("{part}", "residual.wav").encode())
        name = _shortened(name.replace("{", "(").replace("}", ")"), room)
        return os.path.join(head, tail).replace("{name}", name)

    def _path(self, base: str, part: str, extension: str) -> Path:
        if part:
            return self._folder / (base.replace("{part}", part) + extension)
        head, tail = os.path.split(base)
        bare = _PART.sub("", tail)
        return self._folder / head.replace("{part}", "about") / ((bare or "about") + extension)


def describe_query(query: Query) -> dict[str, Any]:
    """A query in JSON's terms: files by name, waveforms and pictures in memory by what they are."""

    def named(value: Any) -> str | None:
        if value is None or isinstance(value, str | os.PathLike):
            return None if value is None else os.fspath(value)
        return "waveform" if isinstance(value, tuple | Audio) else "picture"

    return {
        "text": query.text,
        "audio": named(query.audio),
        "image": named(query.image),
        "like": [list(region) for region in query.regions] or None,
        "weights": dict(query.weights) if query.weights else None,
        "negative": list(query.negatives) or None,
        "negative_in": query.negative_in if query.negatives else None,
    }


def query_slug(described: dict[str, Any]) -> str:
    """What was asked for as part of a file name, e.g. `dog-barking`."""
    asked = [described["text"], *(Path(described[kind]).stem for kind in ("audio", "image") if described.get(kind))]
    asked += [f"like {describe_region((begin, end))}" for begin, end in described.get("like") or ()]
    asked += [f"not {words}" for words in described.get("negative") or ()]
    return slug(" ".join(word for word in asked if word))


def _shortened(name: str, room: int) -> str:
    """A name that fits into so many bytes; a long one ends with a checksum instead of its end."""
    data = os.fsencode(name)
    if len(data) <= room:
        return name
    mark = "~" + hashlib.sha256(data).hexdigest()[:8]
    return data[: max(0, room - len(mark))].decode("utf-8", "ignore") + mark
