"""What a run says while it goes: JSON lines, TensorBoard if installed, and a progress bar."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Journal:
    """Writes `journal.jsonl` and TensorBoard events into a run's folder; shows a bar on standard error.

    Args:
        folder: of the run; None keeps and shows nothing, for the processes beside the first.
        total: steps of the run.
        append: keep the lines of an interrupted run up to `start`.
        start: step the run goes on from.
        quiet: show no bar.
    """

    def __init__(
        self, folder: Path | None, *, total: int, append: bool = False, start: int = 0, quiet: bool = False
    ) -> None:
        self._file = None if folder is None else _open(folder / "journal.jsonl", start if append else None)
        self._events = None if folder is None else _tensorboard(folder)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(
            *columns, console=Console(stderr=True), disable=quiet or folder is None, refresh_per_second=2
        )
        self._task = self._bar.add_task("training", total=total, completed=start)

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()

    def advance(self, step: int, description: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, description=description)

    def note(self, step: int, text: str) -> None:
        """Add a line of words."""
        if self._file is not None:
            self._file.write(json.dumps({"step": step, "note": text}) + "\n")
            self._file.flush()

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Add one line of figures for a step."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **{key: round(value, 6) for key, value in figures.items()}}) + "\n")
        self._file.flush()
        if self._events is not None:
            for key, value in figures.items():
                self._events.add_scalar(key, value, step)


def _open(path: Path, start: int | None) -> TextIO:
    """The file, empty or with the lines up to a step."""
    kept = []
    if start is not None and path.is_file():
        kept = [line for line in path.read_text().splitlines() if json.loads(line).get("step", 0) <= start]
    file = path.open("w", encoding="utf-8")
    file.writelines(line + "\n" for line in kept)
    return file


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # an extra; the JSON lines hold the same figures
        return None
    return SummaryWriter(str(folder / "tensorboard"))
