"""What an archive holds: recordings in a folder of any depth, and in tar shards (WebDataset layout)."""

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from marssep.audio import EXTENSIONS
from marssep.errors import InputError, UsageError


class PassingError(Exception):
    """An input cannot be read now, for a reason that may pass: a disk, a network."""


@dataclass(frozen=True, slots=True)
class ArchiveInput:
    """One recording of an archive.

    Attributes:
        name: path below the archive's folder, with `#MEMBER` for a member of a shard; what the manifest calls it.
        path: of the file or the shard.
        offset: of the member in the shard, bytes; 0 for a file.
        size: bytes.
        changed: time of the last change of the file or shard, nanoseconds.
        in_shard: whether it is a member of a shard.
    """

    name: str
    path: str
    offset: int
    size: int
    changed: int
    in_shard: bool = False

    @property
    def stamp(self) -> str:
        """Tells a changed input from one that has been dealt with, without reading it."""
        return f"{self.size}-{self.changed}-{self.offset}"

    @property
    def suffix(self) -> str:
        """Of the file or member, lower case."""
        return PurePosixPath(self.name.rpartition("#")[2]).suffix.lower()

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, a megabyte at a time.

        Raises:
            InputError: if it is not there, not ours to read, or not as long as it was.
            PassingError: if reading it fails otherwise.
        """
        try:
            with Path(self.path).open("rb") as file:
                file.seek(self.offset)
                left = self.size
                while left and (chunk := file.read(min(left, 1 << 20))):
                    left -= len(chunk)
                    yield chunk
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror}); check it and the archive.") from None
        except OSError as error:
            raise PassingError(f"{self.name}: cannot be read ({error.strerror})") from None
        if left:
            raise InputError(
                f"{self.name}: ends {left} bytes early; it was cut off or changed since it was listed; run again."
            )

    def sha256(self) -> str:
        """Of its bytes.

        Raises:
            InputError: as of `chunks`.
            PassingError: as of `chunks`.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class InputList:
    """What was found.

    Attributes:
        inputs: recordings, in the order of their names.
        ignored: how many other files there are, by suffix.
    """

    inputs: tuple[ArchiveInput, ...]
    ignored: dict[str, int]


def list_inputs(archive: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None) -> InputList:
    """The recordings below a folder, in a shard, or a single file.

    Args:
        archive: folder, `.tar` shard or recording; hidden files and folders are left out.
        output: folder of the results; what lies in it is no input, even if it lies in the archive.

    Raises:
        InputError: if there is no such folder or file, nothing in it is a recording, or a shard is damaged.
        UsageError: if the output is the archive.
    """
    root, own = Path(archive), None if output is None else Path(output).resolve()
    if not root.exists():
        raise InputError(f"{root}: no such folder or file; check the name.")
    if own == root.resolve():
        raise UsageError(f"{root}: is the archive and the output at once; choose another output folder.")
    found: list[ArchiveInput] = []
    ignored: Counter[str] = Counter()
    for path in sorted(_files(root, own)) if root.is_dir() else [root]:
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        members = _members(path, name) if path.suffix.lower() == ".tar" else [_file(path, name)]
        for member in members:
            if member.suffix in EXTENSIONS:
                found.append(member)
            else:
                ignored[member.suffix or "(none)"] += 1
    if not found:
        known = ", ".join(sorted(EXTENSIONS))
        raise InputError(f"{root}: holds no recording; names of recordings end in {known}, those of shards in .tar.")
    return InputList(tuple(found), dict(sorted(ignored.items())))


def _files(root: Path, own: Path | None) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(folder, name).resolve() != own]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _file(path: Path, name: str) -> ArchiveInput:
    try:
        about = path.stat()
    except OSError:  # a link that leads nowhere; reading it will say so
        return ArchiveInput(name, str(path), 0, 0, 0)
    return ArchiveInput(name, str(path.resolve()), 0, about.st_size, about.st_mtime_ns)


def _members(path: Path, name: str) -> list[ArchiveInput]:
    changed, place = path.stat().st_mtime_ns, str(path.resolve())
    try:
        with tarfile.open(path, "r:") as shard:
            return [
                ArchiveInput(f"{name}#{member.name}", place, member.offset_data, member.size, changed, in_shard=True)
                for member in shard
                if member.isfile()
            ]
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{path}: not a readable tar shard ({error}); pack or copy it again.") from None
