"""Which recordings a command line means: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marssep.errors import InputError


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that is to be separated.

    Attributes:
        path: the file.
        below: its folder as seen from the folder that was named; empty for files that were named.
    """

    path: Path
    below: str = ""


def find_recordings(inputs: Sequence[Path], *, output: Path) -> list[Found]:
    """Files as they are, folders searched to their depths, patterns filled in, in order.

    A file that a folder or pattern finds a second time is left out; one that is named twice is separated twice.

    Args:
        inputs: as given.
        output: folder of the results, whose files are not recordings to separate.

    Raises:
        InputError: if a folder or a pattern gives no recording.
    """
    made: list[Found] = []
    seen: set[str] = set()
    for each in inputs:
        found = list(_expand(each, output.resolve()))
        if not found:
            kind = "no recording is in this folder" if each.is_dir() else "no file fits this pattern"
            raise InputError(f"{each}: {kind}; name audio files.")
        for one in found:
            place = os.path.abspath(one.path)
            if one.path == each or place not in seen:
                made.append(one)
            seen.add(place)
    return made


def _expand(given: Path, output: Path) -> Iterator[Found]:
    if given.is_dir():
        from marssep.audio import EXTENSIONS

        for path in sorted(given.rglob("*")):
            inside = path.resolve().is_relative_to(output) and not given.resolve().is_relative_to(output)
            if path.suffix.lower() in EXTENSIONS and path.is_file() and not inside and not path.name.startswith("."):
                below = path.parent.relative_to(given)
                yield Found(path, "" if below == Path() else below.as_posix())
    elif glob.has_magic(str(given)) and not given.exists():
        for name in sorted(glob.glob(str(given), recursive=True)):
            if Path(name).is_file():
                yield Found(Path(name))
    else:
        yield Found(given)
