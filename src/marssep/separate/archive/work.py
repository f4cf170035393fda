"""One input of an archive to its result: what a worker does, without knowing what runs it.

Results are what `marssep separate` writes, named by the fingerprint of recording, question and model, and their sidecar
appears last. So a recording is done if and only if its sidecar is there, and doing it twice gives the same sound.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from marssep.audio import make_folder
from marssep.errors import InputError, OutputError
from marssep.query import Query
from marssep.separate.archive.inputs import ArchiveInput
from marssep.separate.archive.ledger import ArchiveRow, sidecar_path
from marssep.separate.files import FileSettings
from marssep.separate.naming import ResultPaths
from marssep.separate.provenance import finished_row, write_sidecar
from marssep.separate.separator import Separator

WORK = ".work"
MOST_ATTEMPTS = 3
_WAIT = 0.2  # seconds before the second attempt, twice that before the third


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveJob:
    """The question asked of every recording.

    Attributes:
        text: the sound in words.
        audio: file with an example of it.
        image: file with a picture of what makes it.
        negative: sounds, in words, to keep out.
        model: name or folder.
        gate: turn the target down where the sound seems to be absent.
        adapt: learn from the recording itself what its sounds look like and where they come from.
        residual: keep everything else, too.
    """

    text: str | None = None
    audio: str | None = None
    image: str | None = None
    negative: tuple[str, ...] = ()
    model: str = "default"
    gate: bool = True
    adapt: bool = True
    residual: bool = True

    @property
    def query(self) -> Query:
        """For the separator."""
        return Query(text=self.text, audio=self.audio, image=self.image, negative=self.negative)

    @property
    def settings(self) -> FileSettings:
        """For the separator."""
        return FileSettings(gate=self.gate, adapt=self.adapt)

    def described(self, separator: Separator) -> dict[str, Any]:
        """The question by content: files and model by checksums, adaptation by its constants."""
        about = asdict(self) | separator.identity() | {"adapt": self.settings.adaptation}
        for name in ("audio", "image"):
            if about[name] is not None:
                about[name] = f"{Path(about[name]).name} {hashlib.sha256(Path(about[name]).read_bytes()).hexdigest()}"
        about["negative"] = list(self.negative) or None
        del about["model"]
        return about


@dataclass
class ArchiveWorker:
    """Does one input after another with one loaded model.

    Args:
        job: the question.
        output: folder of the archive's results.
        separator: the model; loaded by the job's name if not given.
    """

    job: ArchiveJob
    output: Path
    separator: Separator | None = None
    loaded: Separator = field(init=False)

    def __post_init__(self) -> None:
        self.loaded = self.separator or Separator.load(self.job.model)
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def process(self, each: ArchiveInput) -> ArchiveRow:
        """Separate an input, or find its result; never raises for what is the input's fault.

        A recording that cannot be used is quarantined at once. Anything else that goes wrong is tried again, and so is
        an input whose worker died; after `MOST_ATTEMPTS` the input is quarantined.
        """
        blank = ArchiveRow(input=each.name, stamp=each.stamp, status="quarantined", worker=self._name)
        mark = self.output / WORK / f"{hashlib.sha256(os.fsencode(each.name)).hexdigest()[:32]}.attempts"
        try:
            row = self._tried(each, blank, mark)
            mark.unlink(missing_ok=True)
        except (OutputError, OSError) as error:
            return replace(blank, status="stopped", reason=str(error))
        return row

    def _tried(self, each: ArchiveInput, blank: ArchiveRow, mark: Path) -> ArchiveRow:
        before = _count(mark)  # attempts of workers that died of it
        reason = f"{each.name}: its worker died {before} times while it was separated"
        for attempt in range(before + 1, MOST_ATTEMPTS + 1):
            _note(mark, attempt)
            try:
                return self._done(each, replace(blank, attempts=attempt))
            except InputError as error:
                return replace(blank, reason=str(error), attempts=attempt)
            except OutputError:
                raise
            except Exception as error:  # whatever it is, the other recordings go on
                if isinstance(error, OSError) and attempt == MOST_ATTEMPTS:
                    raise  # the disk of the results: what the archive's disk does is a `PassingError`
                reason = f"{each.name}: {type(error).__name__}: {error}"
                time.sleep(_WAIT * attempt)
        return replace(blank, reason=reason, attempts=MOST_ATTEMPTS)

    def _done(self, each: ArchiveInput, row: ArchiveRow) -> ArchiveRow:
        mark = self.loaded.fingerprint([self.job.query], each.sha256(), self.job.settings)
        key = mark[:32]
        sidecar = sidecar_path(self.output, key)
        started, took = time.monotonic(), 0.0
        about = finished_row(sidecar, mark, picture=False)
        if about is None:
            about = self._make(each, mark, sidecar)
            took = time.monotonic() - started
        return replace(
            row,
            status="done",
            key=key,
            presence=about["presence"],
            present=about["present"],
            duration=round(about["duration"], 3),
            took=round(took, 3),
        )

    def _make(self, each: ArchiveInput, mark: str, sidecar: Path) -> dict[str, Any]:
        key, folder = sidecar.stem, sidecar.parent
        work = self.output / WORK / f"{key}-{uuid.uuid4().hex[:8]}"
        paths = ResultPaths(*(work / f"{key}.{end}" for end in ("target.wav", "residual.wav", "json", "png")))
        make_folder(work)
        try:
            path = Path(each.path)
            if each.in_shard:
                path = work / f"input{each.suffix}"
                with path.open("wb") as file:
                    file.writelines(each.chunks())
            try:
                (result,) = self.loaded.separate_file(path, [self.job.query], [paths], settings=self.job.settings)
            except InputError as error:
                raise InputError(str(error).replace(str(path), each.name)) from None
            assert result.row is not None
            if result.row["fingerprint"] != mark:
                raise InputError(f"{each.name}: was changed while it was separated; run again when it is complete.")
            row = result.row | {"input": each.name}
            if not self.job.residual:
                row |= {"residual": None, "bytes": {"target": row["bytes"]["target"]}}
            make_folder(folder)
            for part in row["bytes"]:
                os.replace(work / row[part], folder / row[part])
            write_sidecar(paths.sidecar, row)
            os.replace(paths.sidecar, sidecar)
            return row
        finally:
            shutil.rmtree(work, ignore_errors=True)


def clear_work(output: Path) -> None:
    """Remove what workers that died left half-done; only while none is at work.

    Raises:
        OutputError: if it cannot be removed.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(output / WORK)
    except OSError as error:
        raise OutputError(f"{output / WORK}: cannot be removed ({error.strerror}); remove it by hand.") from None


def _count(mark: Path) -> int:
    try:
        return int(mark.read_text())
    except (OSError, ValueError):
        return 0


def _note(mark: Path, attempts: int) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(str(attempts))
