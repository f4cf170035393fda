"""From file to files: one recording, any number of queries, constant memory, and nothing half-written."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from marssep.audio import AudioFile, Extras, make_folder
from marssep.audio.riff import start_chunk
from marssep.query import Query
from marssep.separate.asked import Asked
from marssep.separate.bundle import Bundle, Layout, natural_subtype, unlimited_subtype
from marssep.separate.naming import ResultPaths
from marssep.separate.progress import Watch
from marssep.separate.provenance import (
    SavedFiles,
    finished_row,
    sidecar_row,
    write_sidecar,
)
from marssep.separate.sources import FileSource, check_rate
from marssep.separate.streaming import Rendered, Stream, Verdict
from marssep.settings import Settings
from marssep.spectral.adaptation import recipe

if TYPE_CHECKING:
    from marssep.separate.separator import Separator

_MASK_COLUMNS = 4096  # read at once for a picture


class FileSettings(Settings):
    """How a recording in a file is separated."""

    gate: bool = True
    """Turn the target of an absent sound down by the model's attenuation."""
    adapt: bool = True
    """Learn from the recording itself what its sounds look like and where they come from; otherwise the network's mask
    is all. See `marssep.spectral.adaptation`."""
    shares: bool = False
    """Let the queries compete; their masks and that of one common rest add up to one."""
    picture: bool = False
    """Draw mixture, target, residual and mask; costs another pass over all of them."""
    uncertainty: bool = False
    """One more panel in the picture: how far the Beta policy would scatter the mask."""
    resume: bool = False
    """Leave results alone that were made from the same input, model, query and settings, by content."""
    skip_existing: bool = False
    """Leave results alone that have their name already, whatever they were made from."""
    block_seconds: float | None = None
    """Kept part of a block, seconds; None is a quarter of a million samples, which is fast and small."""

    def decisive(self) -> dict[str, Any]:
        """Those that decide how a result sounds."""
        return self.model_dump(include={"gate", "adapt", "shares"})

    @property
    def adaptation(self) -> dict[str, float] | None:
        """The constants that masks adapt by, for checksums; None if they do not."""
        return recipe() if self.adapt else None


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one query.

    Attributes:
        files: that were written, or were there.
        row: contents of the sidecar; None for files that were left alone by name only.
        skipped: whether the files were there already.
    """

    files: SavedFiles
    row: dict[str, Any] | None
    skipped: bool = False


class FileJob:
    """One recording and its results.

    Args:
        separator: model and encoder.
        path: the recording.
        queries: what is asked for.
        paths: where the results of each query go.
        settings: what to write and how.
    """

    def __init__(
        self,
        separator: "Separator",
        path: Path,
        queries: Sequence[Query],
        paths: Sequence[ResultPaths],
        *,
        settings: FileSettings,
    ) -> None:
        self._separator = separator
        self._path = path
        self._queries = list(queries)
        self._files = [
            SavedFiles(each.target, each.residual, each.sidecar, each.picture if settings.picture else None)
            for each in paths
        ]
        self._settings = settings
        self._sha256 = ""

    def run(self, watch: Watch | None = None) -> list[FileResult]:
        """Separate what is not there yet; the results are those of all queries, in order.

        Raises:
            InputError: if the recording or a query's files cannot be used.
            OutputError: if the results cannot be written.
            CancelledError: if the watch says so.
        """
        if self._settings.skip_existing and all(self._exists(files) for files in self._files):
            return [FileResult(files, None, skipped=True) for files in self._files]
        with AudioFile(self._path) as file:
            check_rate(file.sample_rate, name=file.name)
            self._sha256 = file.sha256()
            done = self._finished()
            left = [index for index, result in enumerate(done) if result is None]
            if self._settings.shares and left:
                left = list(range(len(done)))  # the rest depends on all of them
            if left:
                for index, made in zip(left, self._separate(file, left, watch), strict=True):
                    done[index] = made
        return [result for result in done if result is not None]

    def _finished(self) -> list[FileResult | None]:
        done: list[FileResult | None] = []
        for index, files in enumerate(self._files):
            row = None
            if self._settings.resume:
                row = finished_row(files.sidecar, self._fingerprint(index), picture=files.picture is not None)
            if row is None and not (self._settings.skip_existing and self._exists(files)):
                done.append(None)
            else:
                done.append(FileResult(files, row, skipped=True))
        return done

    def _separate(self, file: AudioFile, wanted: list[int], watch: Watch | None) -> list[FileResult]:
        separator, queries = self._separator, [self._queries[index] for index in wanted]
        files = [self._files[index] for index in wanted]
        source, block_seconds = FileSource(file), self._settings.block_seconds
        asked = Asked.of(queries, separator.encoder, shares=self._settings.shares, source=source)
        for folder in {path.parent for each in files for path in (each.target, each.residual, each.sidecar)}:
            make_folder(folder)
        with (
            Stream(
                source,
                separator.model,
                separator.encoder,
                asked,
                watch=watch,
                folder=files[0].sidecar.parent,
                block_seconds=block_seconds,
            ) as stream,
            contextlib.ExitStack() as stack,
        ):
            stream.propose()
            if self._settings.adapt:
                stream.adapt()
            groups = [list(range(len(files)))] if self._settings.shares else [[index] for index in range(len(files))]
            writing = _Writing(stream, files, groups, _layout(file, stream), file.subtype)
            stack.callback(writing.discard)
            verdicts = writing.run(gate=self._settings.gate)
            sizes = writing.publish()
            rows = []
            for position, index in enumerate(wanted):
                row = self._row(index, file, verdicts[position], stream.length)
                row |= {"written": writing.subtypes[position], "start": file.start, "bytes": sizes[position]}
                row["fingerprint"] = self._fingerprint(index)
                if (picture := files[position].picture) is not None:
                    self._draw(picture, source, stream, position, row)
                rows.append(row)
            for each, row in zip(files, rows, strict=True):
                write_sidecar(each.sidecar, row)
        return [FileResult(each, row) for each, row in zip(files, rows, strict=True)]

    def _row(self, index: int, file: AudioFile, verdict: Verdict, length: int) -> dict[str, Any]:
        provenance = self._separator.provenance(
            self._queries[index],
            verdict,
            input=file.name,
            input_sha256=self._sha256,
            subtype=file.subtype,
            settings=self._settings.decisive(),
        )
        return sidecar_row(
            self._files[index],
            provenance,
            presence=verdict.presence,
            present=verdict.present,
            confidence=verdict.confidence,
            sample_rate=file.sample_rate,
            shape=(file.channels, length),
        )

    def _draw(self, path: Path, source: FileSource, stream: Stream, position: int, row: dict[str, Any]) -> None:
        from marssep.separate.doubt import spread
        from marssep.separate.picture import Scene, asked_for, draw_scene

        def masks() -> Iterator[Tensor]:
            for start in range(0, stream.masks.n_steps, _MASK_COLUMNS):
                yield torch.from_numpy(stream.masks.read(slice(start, start + _MASK_COLUMNS))[position])

        folder = path.parent
        with AudioFile(folder / row["target"]) as target, AudioFile(folder / row["residual"]) as residual:
            waveforms = {
                "mixture": source,
                f"target: {asked_for(row['query'])}": FileSource(target),
                "residual": FileSource(residual),
            }
            scene = Scene(
                waveforms,
                masks(),
                stream.length,
                row["presence"],
                self._separator.model.spectral,
                doubt=map(spread, masks()) if self._settings.uncertainty else None,
            )
            draw_scene(scene, path)

    def _fingerprint(self, index: int) -> str:
        queries = [self._queries[index], *(self._queries if self._settings.shares else [])]
        mark = self._separator.fingerprint(queries, self._sha256, self._settings)
        return f"{mark}+uncertainty" if self._settings.uncertainty else mark  # whose picture is another one

    @staticmethod
    def _exists(files: SavedFiles) -> bool:
        return files.target.exists() and files.residual.exists()


class _Writing:
    """Renders until every file is right: gains and sample formats are known for certain only after a render."""

    def __init__(
        self, stream: Stream, files: Sequence[SavedFiles], groups: list[list[int]], layout: Layout, subtype: str
    ) -> None:
        self._stream = stream
        self._files = files
        self._groups = groups
        self._layout = layout
        self._natural, self._unlimited = natural_subtype(subtype), unlimited_subtype(subtype)
        self._gains = [1.0] * len(files)
        self._bundles: dict[int, Bundle] = {}

    def run(self, *, gate: bool) -> list[Verdict]:
        """Write everything under temporary names."""
        groups = range(len(self._groups))
        # Verdicts need a render; a good guess of them saves another one for sounds that are not there.
        guessed = self._gains = [verdict.gain for verdict in self._stream.guesses(gate=gate)]
        self._render(groups, dict.fromkeys(groups, self._natural), listening=True)
        verdicts = self._stream.verdicts(gate=gate)
        self._gains = [verdict.gain for verdict in verdicts]
        turned = [
            group for group in groups if any(self._gains[index] != guessed[index] for index in self._groups[group])
        ]
        self._render(turned, dict.fromkeys(turned, self._natural))
        clipped = [group for group in groups if self._bundles[group].clipped]
        self._render(clipped, dict.fromkeys(clipped, self._unlimited))
        for bundle in self._bundles.values():
            bundle.finish()
        return verdicts

    @property
    def subtypes(self) -> list[str]:
        """Sample format of each query's files."""
        made = {index: self._bundles[group].subtype for group, each in enumerate(self._groups) for index in each}
        return [made[index] for index in range(len(self._files))]

    def publish(self) -> list[dict[str, int]]:
        """Give all files their names; their sizes in bytes."""
        for bundle in self._bundles.values():
            bundle.publish()
        return [
            {"target": each.target.stat().st_size, "residual": each.residual.stat().st_size} for each in self._files
        ]

    def discard(self) -> None:
        """Take back what was not published."""
        for bundle in self._bundles.values():
            bundle.discard()

    def _render(self, groups: Sequence[int], subtypes: dict[int, str], *, listening: bool = False) -> None:
        if not groups:
            return
        for group in groups:
            if group in self._bundles:
                self._bundles[group].discard()
            members = [self._files[index] for index in self._groups[group]]
            self._bundles[group] = Bundle(
                [each.target for each in members], members[0].residual, layout=self._layout, subtype=subtypes[group]
            )
        wanted = [index for group in groups for index in self._groups[group]]
        for part in self._stream.render(wanted, listening=listening):
            self._write(groups, wanted, part)

    def _write(self, groups: Sequence[int], wanted: list[int], part: Rendered) -> None:
        targets = dict(zip(wanted, part.targets, strict=True))
        mixture = part.mixture.numpy()
        for group in groups:
            members = self._groups[group]
            scaled: list[np.ndarray] = [(targets[index] * self._gains[index]).numpy() for index in members]
            self._bundles[group].write(scaled, mixture)


def _layout(file: AudioFile, stream: Stream) -> Layout:
    chunks = file.chunks()
    if file.start > 0 and b"bext" not in chunks:
        chunks[b"bext"] = start_chunk(file.start, file.sample_rate)
    return Layout(
        file.sample_rate, file.channels, stream.length, on_grid=stream.on_grid, extras=Extras(file.tags, chunks)
    )
