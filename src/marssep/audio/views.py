"""An open file as decoders get it: they may close it, and may ask for places that it does not have."""

import io
import os
from typing import Any


class View(io.RawIOBase):
    """A file that may be closed without closing the one behind it.

    A damaged header sends a decoder to places before the beginning. Decoders call from C, where an exception is only
    printed; so the position stays what it was, and the decoder finds out that it is not where it wanted to be.

    Args:
        file: open for reading.
    """

    def __init__(self, file: io.BufferedIOBase | io.RawIOBase) -> None:
        self._file = file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move if there is such a place."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self._file.tell()

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """The next bytes into a buffer of any kind."""
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        return self._file.read(size) or b""


class Spliced(io.RawIOBase):
    """A new head before the rest of a file.

    Args:
        head: comes first.
        file: open for reading.
        start: where in the file the rest begins.
    """

    def __init__(self, head: bytes, file: io.BufferedIOBase, start: int) -> None:
        self._head, self._file, self._start = head, file, start
        self._size = len(head) + file.seek(0, os.SEEK_END) - start
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, not before the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """The next bytes into a buffer of any kind, of the head or of the rest."""
        view = memoryview(buffer).cast("B")
        part = self._head[self._at : self._at + len(view)]
        if part:
            view[: len(part)] = part
        else:
            self._file.seek(self._start + self._at - len(self._head))
            part = self._file.read(len(view))
            view[: len(part)] = part
        self._at += len(part)
        return len(part)
