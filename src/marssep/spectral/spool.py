"""What is known of a recording column by column, in memory while it is little and on the disk when it is much."""

import contextlib
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float32

from marssep.errors import OutputError

_MOST_IN_MEMORY = 1 << 23  # bytes: four minutes and a half of one mask of 128 rows


class ColumnSpool:
    """Columns are appended in order and read back in any; a file without a name, gone when its process ends.

    Args:
        n_tables: such as masks, side by side.
        n_rows: of each.
        folder: where the file lies if it is needed; None is the system's temporary folder.
    """

    def __init__(self, n_tables: int, n_rows: int, *, folder: Path | None = None) -> None:
        self._shape = (n_tables, n_rows)
        self._bytes = 4 * n_tables * n_rows
        self._file = tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115  (closed by close)
        self.n_steps = 0

    def append(self, values: Float32[np.ndarray, "t rows _"]) -> None:
        """Add columns of all tables.

        Raises:
            OutputError: if there is no room.
        """
        columns = np.ascontiguousarray(values.transpose(2, 0, 1))
        try:
            self._file.seek(self.n_steps * self._bytes)
            self._file.write(columns.tobytes())
        except OSError as error:
            raise OutputError(
                f"What is known of a recording cannot be kept on the disk ({error.strerror}); make room or choose "
                "another output folder."
            ) from None
        self.n_steps += len(columns)

    def read(self, columns: slice) -> Float32[np.ndarray, "t rows _"]:
        """Some columns of all tables; fewer where the recording ends."""
        start, stop, _ = columns.indices(self.n_steps)
        self._file.seek(start * self._bytes)
        values = np.frombuffer(self._file.read(max(0, stop - start) * self._bytes), dtype=np.float32)
        return values.reshape(-1, *self._shape).transpose(1, 2, 0).copy()

    def close(self) -> None:
        """Give memory and disk back."""
        # Closing writes what is still buffered, which fails again on a full disk; nobody wants it any more.
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
