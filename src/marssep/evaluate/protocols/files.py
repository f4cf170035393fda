"""Material made of files outside any corpus: found under a folder, read once each, cut and brought to one channel."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from marssep.audio import read_audio, resample, to_mono
from marssep.evaluate.material import Rendered, Task, digest_of

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
_SEPARATOR = "\n"  # between the files of one query: no file name has it


@dataclass(frozen=True)
class QueryFiles:
    """Queries whose keys are paths of files, several of them one to a line."""

    def recordings(self, key: str) -> list[tuple[Float[np.ndarray, " n"], int]]:
        """The recordings of a query, one channel each, at their own rates."""
        read = [read_audio(path) for path in key.split(_SEPARATOR)]
        return [(to_mono(audio.waveform), audio.sample_rate) for audio in read]

    def pictures(self, key: str) -> list[Image.Image]:
        """The pictures of a query."""
        return [Image.open(path).convert("RGB") for path in key.split(_SEPARATOR)]

    def has(self, key: str) -> bool:
        """Whether all files of a query are there."""
        return all(Path(path).is_file() for path in key.split(_SEPARATOR))


def query_key(paths: Iterable[Path]) -> str | None:
    """Files as the key of a query; None if there are none."""
    return _SEPARATOR.join(str(path) for path in paths) or None


def find_below(root: Path, name: str) -> Path | None:
    """A file that a list names, under `root`: the whole path, or as much of its end as is there.

    Lists of others carry paths of others (`data/vggsound/audio/e/2/x.wav`): `root` may stand for any of these folders.
    """
    parts = Path(name.replace("\\", "/")).parts
    parts = tuple(part for part in parts if part not in ("/", ".", ".."))
    for first in range(len(parts)):
        path = root.joinpath(*parts[first:])
        if path.is_file():
            return path
    return None


def read_mono(path: Path, *, sample_rate: int | None = None) -> tuple[Float32[np.ndarray, " n"], int]:
    """A recording as one channel (the mean of its channels), at another rate if one is given.

    Raises:
        InputError: if it cannot be read.
    """
    audio = read_audio(path)
    waveform = to_mono(audio.waveform)
    if sample_rate is None or sample_rate == audio.sample_rate:
        return waveform, audio.sample_rate
    return resample(waveform, from_rate=audio.sample_rate, to_rate=sample_rate), sample_rate


def centre_cut(waveform: Float32[np.ndarray, " n"], length: int) -> Float32[np.ndarray, " m"]:
    """The middle `length` samples, or all if there are fewer."""
    start = max(0, (len(waveform) - length) // 2)
    return waveform[start : start + length]


def file_digest(paths: Sequence[Path]) -> str:
    """A checksum of names, sizes and times: reading gigabytes to see that nothing changed would take too long."""
    stats = [(str(path), path.stat()) for path in paths if path.is_file()]
    return digest_of([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def tasks_checksum(tasks: Sequence[Task], limit: int | None) -> str:
    """A checksum of what is mixed and asked, without where and when the files were written."""
    return digest_of([(task.id, [(query.label, query.text) for query in task.all_queries]) for task in tasks[:limit]])


def plain(name: str) -> str:
    """A name as the id of a mixture: no full stops or slashes, in which names of estimates are split."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")


def words(label: str) -> str:
    """A label as people say it: `sea_waves` is `sea waves`."""
    return re.sub(r"[_\s]+", " ", label).strip()


@dataclass(frozen=True)
class FilesMaterial(QueryFiles):
    """Mixtures that are each made by a function of their own.

    Attributes:
        name: of the protocol.
        mixtures: a task and what renders it.
    """

    name: str
    mixtures: Sequence[tuple[Task, Callable[[], Rendered]]]
    bss_on_all: bool = False

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All mixtures in their order."""
        return tuple(task for task, _ in self.mixtures)

    @cached_property
    def _makers(self) -> dict[str, Callable[[], Rendered]]:
        return {task.id: make for task, make in self.mixtures}

    def checksum(self, limit: int | None) -> str:
        """Of names and labels."""
        return tasks_checksum(self.tasks, limit)

    def render(self, task: Task) -> Rendered:
        """Waveforms of a mixture.

        Raises:
            InputError: if a file cannot be used.
        """
        return self._makers[task.id]()

    def figures(
        self, rendered: Rendered, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """As `signal_figures`."""
        return rendered.figures(estimate, indices=indices, with_bss=with_bss)


def at_snr(
    target: Float32[np.ndarray, " n"], noise: Float32[np.ndarray, " n"], snr_db: float
) -> Float32[np.ndarray, " n"]:
    """`noise` at the level that leaves `target` `snr_db` above it; silence stays as it is."""
    powers = [float(np.mean(np.square(waveform, dtype=np.float64))) for waveform in (target, noise)]
    if not all(powers):
        return noise
    return noise * np.float32(np.sqrt(powers[0] / powers[1]) * 10.0 ** (-snr_db / 20.0))
