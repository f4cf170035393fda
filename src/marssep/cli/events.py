"""What `marssep separate` says while it works: words for people, JSON lines for machines, bars on a terminal."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Event = dict[str, Any]
"""`event` is `start`, `progress`, `done`, `failed` or `summary`; docs/separation.md has the fields."""


class JsonSpeaker:
    """One JSON object a line on standard output."""

    _EVERY = 0.5  # seconds between two lines of progress of a recording

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, event: Event) -> None:
        """Print it; progress at most twice a second."""
        if event["event"] == "progress":
            now = time.monotonic()
            if now - self._told.get(event["input"], 0.0) < self._EVERY and event["share"] < 1.0:
                return
            self._told[event["input"]] = now
        print(json.dumps(event, ensure_ascii=False), flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put away."""


@dataclass
class WordSpeaker:
    """Sentences on standard output, faults on standard error, bars if that is a terminal.

    Attributes:
        total: recordings of the run.
    """

    total: int
    _bars: Any = None
    _tasks: dict[str, Any] = field(default_factory=dict)
    _overall: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
            if self.total > 1:
                self._overall = self._bars.add_task(f"{self.total} recordings", total=float(self.total))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, event: Event) -> None:
        """Print or draw it."""
        kind = event["event"]
        if kind == "done":
            self._done(event)
        elif kind == "failed":
            self._say(f"marssep: {event['error']}", error=True)
        elif kind == "summary":
            self._summary(event)
        if self._bars is not None and kind in ("start", "progress", "finished", "failed"):
            self._draw(event)

    def _draw(self, event: Event) -> None:
        name = event["input"]
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(Path(name).name, total=1.0)
        if event["event"] == "progress":
            self._bars.update(self._tasks[name], completed=event["share"])
        elif event["event"] != "start":
            self._bars.remove_task(self._tasks.pop(name))
        if self._overall is not None and "over" in event:
            self._bars.update(self._overall, completed=event["over"])

    def _done(self, event: Event) -> None:
        if event["skipped"]:
            self._say(f"{event['input']}: there already\n  target    {event['target']}")
            return
        absent = ""
        if not event["present"]:
            down = event["attenuated_db"]
            absent = f", the sound seems to be absent{f' (target turned down by {down:g} dB)' if down else ''}"
        lines = [f"{event['input']}: presence {event['presence']:.2f}{absent}"]
        lines += [f"  {part:<9} {event[part]}" for part in ("target", "residual", "picture") if event[part]]
        self._say("\n".join(lines))

    def _summary(self, event: Event) -> None:
        if not event["failed"] or self.total == 1:
            return
        self._say(f"marssep: {event['failed']} of {event['recordings']} recordings could not be separated:", error=True)
        for failure in event["failures"]:
            self._say(f"  {failure['error']}", error=True)

    def _say(self, text: str, *, error: bool = False) -> None:
        if self._bars is not None:
            self._bars.stop()
        print(text, file=sys.stderr if error else sys.stdout, flush=True)
        if self._bars is not None:
            self._bars.start()
