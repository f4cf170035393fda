"""What has become of every input of an archive: one line each in `manifest.jsonl`, written by one process."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from marssep.errors import OutputError
from marssep.separate.archive.inputs import ArchiveInput

MANIFEST, QUARANTINE, JOB, RESULTS = "manifest.jsonl", "quarantine.jsonl", "job.json", "results"

# A file name that is not UTF-8 has surrogates, whose backslash escapes are JSON's own.
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}

Status = Literal["done", "quarantined", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRow:
    """What has become of one input.

    Attributes:
        input: its name.
        stamp: tells whether it has changed since.
        status: `done`; `quarantined`: cannot be separated; `stopped`: the results cannot be written.
        key: name of the results below `results/`: a digest of the input's bytes and the question.
        presence: probability that the sound is in the recording.
        present: whether that is enough.
        duration: of the recording, seconds.
        took: seconds of work; 0 if the results were there.
        attempts: how often it was tried.
        reason: why it is in quarantine.
        worker: process that did it.
    """

    input: str
    stamp: str
    status: Status
    key: str = ""
    presence: float | None = None
    present: bool | None = None
    duration: float = 0.0
    took: float = 0.0
    attempts: int = 1
    reason: str = ""
    worker: str = ""

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def parse(cls, line: str) -> Self:
        """From a line of JSON; `ValueError` if it is none."""
        values = json.loads(line)
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not {"input", "stamp", "status"} <= values.keys() <= known:
            raise ValueError("not a row of an archive")
        return cls(**values)


def sidecar_path(output: Path, key: str) -> Path:
    """Where the sidecar of a result lies; its files are beside it."""
    return output / RESULTS / key[:2] / f"{key}.json"


class Ledger:
    """The manifest of an output folder; holds a lock, so that one run writes it at a time.

    Use as a context. A line that was cut off by a crash is dropped: its result is there and is found by content.

    Args:
        output: folder; made if missing.
        job: what is asked, and of which model.

    Raises:
        OutputError: if the folder belongs to another question, is in use, or cannot be written.
    """

    def __init__(self, output: str | os.PathLike[str], job: Mapping[str, Any]) -> None:
        self.output = Path(output)
        with contextlib.ExitStack() as opened:
            try:
                self.output.mkdir(parents=True, exist_ok=True)
                lock = opened.enter_context((self.output / ".lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _check(self.output / JOB, job)
                self.rows = _read(self.output / MANIFEST)
                self._file = opened.enter_context((self.output / MANIFEST).open("a", **_TEXT))
            except BlockingIOError:
                raise OutputError(
                    f"{output}: another run is writing there; wait for it or choose another output."
                ) from None
            except OSError as error:
                raise _refusal(self.output, error) from None
            self._opened = opened.pop_all()
        self._added = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave one line per input and the list of those in quarantine."""
        with self._opened:
            try:
                if self._added:
                    _write(self.output / MANIFEST, self.rows.values())
                _write(self.output / QUARANTINE, self.quarantined())
            except OSError as fault:  # the manifest has all lines already, some perhaps twice
                if kind is None:
                    raise _refusal(self.output, fault) from None

    def waiting(self, inputs: Iterable[ArchiveInput], *, quarantined: bool = False) -> list[ArchiveInput]:
        """Inputs that are new, have changed or lost their results, and if asked those in quarantine."""
        return [each for each in inputs if not self._settled(each, quarantined=quarantined)]

    def add(self, row: ArchiveRow) -> None:
        """Write a row, at once.

        Raises:
            OutputError: if it cannot be written.
        """
        self.rows[row.input] = row
        self._added = True
        try:
            self._file.write(row.line() + "\n")
            self._file.flush()
        except OSError as error:
            raise _refusal(self.output, error) from None

    def quarantined(self) -> list[ArchiveRow]:
        """Inputs that cannot be separated, with the reasons."""
        return [row for row in self.rows.values() if row.status == "quarantined"]

    def _settled(self, each: ArchiveInput, *, quarantined: bool) -> bool:
        row = self.rows.get(each.name)
        if row is None or row.stamp != each.stamp:
            return False
        if row.status == "done":
            return sidecar_path(self.output, row.key).is_file()
        return not quarantined


def _check(path: Path, job: Mapping[str, Any]) -> None:
    if not path.is_file():
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(job, indent=1, ensure_ascii=False) + "\n", **_TEXT)
        os.replace(partial, path)
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise OutputError(f"{path}: is damaged; restore it or choose another output.") from None
    changed = sorted(name for name in before.keys() | job.keys() if before.get(name) != job.get(name))
    if changed:
        raise OutputError(
            f"{path.parent}: holds results of another question ({', '.join(changed)} changed); choose another output."
        )


def _read(path: Path) -> dict[str, ArchiveRow]:
    if not path.is_file():
        return {}
    rows: dict[str, ArchiveRow] = {}
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = ArchiveRow.parse(line)
        except ValueError:
            if number < len(lines):
                raise OutputError(
                    f"{path}: line {number} is damaged; remove that line and its result is found again by content."
                ) from None
        else:
            rows[row.input] = row
    if len(rows) < len(lines) or not text.endswith("\n"):
        _write(path, rows.values())  # whole lines only, before more are added
    return rows


def _write(path: Path, rows: Iterable[ArchiveRow]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", **_TEXT) as file:
        file.writelines(row.line() + "\n" for row in rows)
    os.replace(partial, path)


def _refusal(output: Path, error: OSError) -> OutputError:
    return OutputError(f"{output}: cannot be written ({error.strerror}); make room or choose another output.")
