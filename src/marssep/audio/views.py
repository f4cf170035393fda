"""An open file as decoders get it: they may close it, and may ask for places that it does not have."""

import io
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
