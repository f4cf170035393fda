"""Where an item's bytes lie: a plain file, or a member of a tar shard (`SHARD.tar#MEMBER`)."""

import os
import tarfile
from pathlib import Path

from marssep.corpus.manifest import Item
from marssep.errors import CorpusError


def split_path(path: str) -> tuple[str, str | None]:
    """The file of an item's path, and the member inside it if the file is a shard."""
    shard, mark, member = path.partition("#")
    return (shard, member) if mark else (path, None)


class ItemReader:
    """Reads the bytes of items of one corpus folder; shards are indexed once and read by offset."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._index: dict[str, dict[str, tuple[int, int]]] = {}

    def read(self, item: Item) -> bytes:
        """The bytes of an item's file.

        Raises:
            CorpusError: if the file, shard or member is missing.
        """
        name, member = split_path(item.path)
        path = self.folder / name
        try:
            if member is None:
                return path.read_bytes()
            offset, size = self._members(name)[member]
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            raise CorpusError(f"{path}: named by the manifest for {item.id}, but missing; build it again.") from None
        except KeyError:
            raise CorpusError(f"{path}: has no member '{member}', which {item.id} needs; pack it again.") from None

    def _members(self, name: str) -> dict[str, tuple[int, int]]:
        if name not in self._index:
            path = self.folder / name
            try:
                with tarfile.open(path, "r:") as shard:
                    self._index[name] = {m.name: (m.offset_data, m.size) for m in shard if m.isfile()}
            except tarfile.TarError as error:
                raise CorpusError(f"{path}: not a readable tar shard ({error}); pack it again.") from None
        return self._index[name]
