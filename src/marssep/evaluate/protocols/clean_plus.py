"""VGGSOUND-clean+ and MUSIC-clean+ as the evaluators of CLIPSep and OmniSep make and score them.

Everything that decides a figure follows their public code: targets and interferers come from two lists without header
(sound, folder of frames, number of frames, label); Python's `random` seeded with the target's place in its list draws
the interferer; both are cut around the middle frame, clipped to full scale and halved; the estimate is what a soft mask
with the mixture's phase gives, cut to whole hops and clipped; SDR, SIR and SAR are museval's over the whole signal on
(target, interferer) against (estimate, rest), and for the row of doing nothing against (mixture, mixture).
"""

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from marssep.corpus.mixing import QuerySpec
from marssep.errors import CorpusError, InputError
from marssep.evaluate.material import Rendered, Task
from marssep.evaluate.protocols.files import (
    QueryFiles,
    file_digest,
    find_below,
    plain,
    query_key,
    read_mono,
    tasks_checksum,
    words,
)
from marssep.evaluate.scores import signal_figures
from marssep.metrics.bss import load_museval
from marssep.settings import Settings

_SILENT = 1e-5  # sum of magnitudes below which their evaluator passes an item over


class CleanPlusSettings(Settings):
    """What their command line and training settings hold."""

    targets: str = "vggsound/test-good.csv"
    """List of the sounds that are asked for, below the data folder."""
    interferers: str = "vggsound/test-no-music.csv"
    """List that the other sound is drawn from."""
    sample_rate: int = 16000
    """Hz; files must have it."""
    length: int = 65535
    """Samples of a mixture."""
    hop: int = 256
    """Samples; scores are over whole hops."""
    frames_per_second: float = 1.0
    """Of the folders of frames."""
    references: int = 5
    """Recordings of the class that an audio query averages, from `queries/LABEL/` below the data folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of their lists."""

    audio: str
    frames: str
    n_frames: int
    label: str


@dataclass(frozen=True)
class CleanPlusMaterial(QueryFiles):
    """The mixtures of one of these protocols.

    Attributes:
        name: of the protocol.
        root: data folder.
        settings: as above.
        pairs: target and interferer of every mixture.
    """

    name: str
    root: Path
    settings: CleanPlusSettings
    pairs: Sequence[tuple[Row, Row]]
    bss_on_all: bool = True
    tasks: tuple[Task, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self._task(place) for place in range(len(self.pairs))))

    @classmethod
    def open(cls, name: str, root: Path, settings: CleanPlusSettings) -> Self:
        """Read both lists and draw the interferers.

        Raises:
            CorpusError: if a list is missing, empty or broken.
        """
        targets, others = (read_rows(root, listed) for listed in (settings.targets, settings.interferers))
        return cls(name, root, settings, list(zip(targets, draw_interferers(len(targets), others), strict=True)))

    def checksum(self, limit: int | None) -> str:
        """Of names and labels."""
        return tasks_checksum(self.tasks, limit)

    def render(self, task: Task) -> Rendered:
        """Target and mixture as their dataset makes them: each sound cut, clipped and divided by two."""
        target, other = (self.load(row) / np.float32(2.0) for row in self.pairs[self._place(task)])
        return Rendered(torch.from_numpy(target + other), torch.from_numpy(target)[None], self.settings.sample_rate)

    def load(self, row: Row) -> Float32[np.ndarray, " n"]:
        """`length` samples around the middle frame; a sound that is too short is repeated first.

        Raises:
            InputError: if the file cannot be read or has another rate.
        """
        path = find_below(self.root, row.audio)
        if path is None:
            raise InputError(f"{row.audio}: not below {self.root}; put it there.")
        sound, rate = read_mono(path)
        if rate != self.settings.sample_rate:
            raise InputError(f"{path}: has {rate} Hz, the protocol {self.settings.sample_rate} Hz; convert it.")
        return centred(sound, row.n_frames, self.settings)

    def figures(
        self, rendered: Rendered, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """Scores over whole hops of the clipped signals; SDR, SIR and SAR are NaN where their evaluator passes over."""
        whole = (rendered.mixture.shape[-1] // self.settings.hop) * self.settings.hop
        mixture = rendered.mixture[:whole]
        reference = rendered.sources[list(indices)][:, :whole]
        clipped = estimate[:, :whole].clamp(-1.0, 1.0)
        rows = signal_figures(clipped, reference, mixture)
        for place, (target, made, raw) in enumerate(zip(reference, clipped, estimate, strict=True)):
            nothing = torch.equal(raw, rendered.mixture)  # their row of the mixture gives it for both sources
            rest = mixture if nothing else mixture - raw[:whole]
            if with_bss:
                rows[place] |= bss_figures(target, mixture - target, made, rest.clamp(-1.0, 1.0))
        return rows

    def _place(self, task: Task) -> int:
        return int(task.id.split("-", 1)[0])

    def _task(self, place: int) -> Task:
        target, other = self.pairs[place]
        found = [(row.audio, find_below(self.root, row.audio)) for row in (target, other)]
        query = QuerySpec(target.label, words(target.label), self._examples(target), self._frames(target))
        return Task(
            id=f"{place:06d}-{plain(Path(target.audio).stem)}",
            queries=(query,),
            groups=("",),
            missing=tuple(name for name, path in found if path is None),
            digest=file_digest([path for _, path in found if path is not None]) + self.settings.model_dump_json(),
        )

    def _frames(self, row: Row) -> str | None:
        middle = row.n_frames // 2
        names = [f"{row.frames}/{middle + offset:06d}.jpg" for offset in (-1, 0, 1)]
        found = [find_below(self.root, name) for name in names]
        return query_key(path for path in found if path is not None) if all(found) else None

    def _examples(self, row: Row) -> str | None:
        folder = self.root / "queries" / row.label
        own = Path(row.audio).stem
        others = [path for path in sorted(folder.glob("*.wav")) if path.stem != own] if folder.is_dir() else []
        return query_key(others[: self.settings.references])


def read_rows(root: Path, name: str) -> list[Row]:
    """A list of theirs; lines with fewer than two fields are passed over, as their reader does.

    Raises:
        CorpusError: if it is missing, empty or a line cannot be understood.
    """
    path = find_below(root, name)
    if path is None:
        raise CorpusError(
            f"{root}: has no list '{name}'; put CLIPSep's or OmniSep's list (of their data folder) there."
        )
    rows = []
    with path.open(newline="", encoding="utf-8") as lines:
        for number, fields in enumerate(csv.reader(lines), start=1):
            if len(fields) < 2:
                continue
            try:
                audio, frames, n_frames, label = fields
                rows.append(Row(audio, frames, int(n_frames), label))
            except ValueError:
                raise CorpusError(
                    f"{path}, line {number}: not 'sound,frames,number of frames,label': {','.join(fields)}"
                ) from None
    if not rows:
        raise CorpusError(f"{path}: the list is empty.")
    return rows


def draw_interferers(count: int, others: Sequence[Row]) -> Iterator[Row]:
    """For each place in the list of targets, a row drawn by a generator that is seeded with the place."""
    for place in range(count):
        yield others[random.Random(place).randint(0, len(others) - 1)]


def centred(sound: Float32[np.ndarray, " n"], n_frames: int, settings: CleanPlusSettings) -> Float32[np.ndarray, " m"]:
    """`length` samples around the middle frame, zeros where the sound does not reach, clipped to full scale."""
    length, rate = settings.length, settings.sample_rate
    if len(sound) < length:
        sound = np.tile(sound, length // len(sound) + 1)
    middle = int((n_frames // 2 - 0.5) / settings.frames_per_second * rate)
    half = length // 2
    start, end = max(0, middle - half), min(len(sound), middle + half)
    made = np.zeros(length, np.float32)
    if start < end:
        made[half - (middle - start) : half + (end - middle)] = sound[start:end]
    return np.clip(made, -1.0, 1.0)


def bss_figures(
    target: Float[Tensor, " n"], other: Float[Tensor, " n"], estimate: Float[Tensor, " n"], rest: Float[Tensor, " n"]
) -> dict[str, float]:
    """Museval's SDR, SIR and SAR of the first of two sources, as they call it; nothing if one signal is silent."""
    signals = [signal.numpy() for signal in (target, other, estimate, rest)]
    if any(np.abs(signal).sum() <= _SILENT for signal in signals):
        return {}
    target_, other_, estimate_, rest_ = signals
    bss_eval = load_museval().bss_eval
    sdr, _, sir, sar, _ = bss_eval(np.stack([target_, other_]), np.stack([estimate_, rest_]), np.inf)
    return {"bss_sdr_db": float(sdr[0, 0]), "bss_sir_db": float(sir[0, 0]), "bss_sar_db": float(sar[0, 0])}
