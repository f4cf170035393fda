"""Recordings of our test list in the noise of DEMAND's places: real rooms and streets that no mixture was made of.

DEMAND has a folder for each place with one file for each microphone. The first sound of every mixture of the list is
laid over the first microphone of one place after the other; where in the noise is drawn by a generator that is seeded
with the mixture's place in the list, and the levels take turns.
"""

import dataclasses
import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from marssep.errors import CorpusError
from marssep.evaluate.material import ListMaterial, Rendered, Task, digest_of
from marssep.evaluate.protocols.files import at_snr, file_digest, plain, read_mono, tasks_checksum
from marssep.settings import Settings


class DemandSettings(Settings):
    """How sounds and noise are mixed."""

    microphone: str = "ch01.wav"
    """File of each place that is used."""
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0)
    """Levels of the sound over the noise, in turn."""


@dataclass(frozen=True)
class DemandMaterial:
    """The mixtures.

    Attributes:
        name: of the protocol.
        foreground: list whose first sounds are asked for.
        places: a recording of each.
        settings: as above.
    """

    name: str
    foreground: ListMaterial
    places: Sequence[Path]
    settings: DemandSettings
    bss_on_all: bool = False
    tasks: tuple[Task, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(map(self._task, range(len(self.foreground.tasks)))))

    def checksum(self, limit: int | None) -> str:
        """Of the list and the places."""
        return digest_of(self.foreground.checksum(limit), tasks_checksum(self.tasks, limit))

    def render(self, task: Task) -> Rendered:
        """The list's first sound and a piece of a place's noise."""
        place = self._index[task.id]
        made = self.foreground.render(self.foreground.tasks[place])
        target = made.sources[0].numpy()
        noise = read_noise(self.places[place % len(self.places)], made.sample_rate)
        start = random.Random(place).randrange(max(1, len(noise) - len(target)))
        piece = np.resize(noise[start : start + len(target)], len(target))
        level = self.settings.snr_db[place % len(self.settings.snr_db)]
        mixture = target + at_snr(target, piece, level)
        return Rendered(torch.from_numpy(mixture), made.sources[:1], made.sample_rate)

    def recordings(self, key: str) -> list[tuple[Float[np.ndarray, " n"], int]]:
        """Those of the list."""
        return self.foreground.recordings(key)

    def pictures(self, key: str) -> list[Image.Image]:
        """Those of the list."""
        return self.foreground.pictures(key)

    def has(self, key: str) -> bool:
        """Whether the list's corpus has the item."""
        return self.foreground.has(key)

    def figures(
        self, rendered: Rendered, estimate: Float[Tensor, "q n"], *, indices: Sequence[int], with_bss: bool
    ) -> list[dict[str, float]]:
        """As `signal_figures`."""
        return rendered.figures(estimate, indices=indices, with_bss=with_bss)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {task.id: place for place, task in enumerate(self.tasks)}

    def _task(self, place: int) -> Task:
        task, noise = self.foreground.tasks[place], self.places[place % len(self.places)]
        return dataclasses.replace(
            task,
            id=f"{task.id}-{plain(noise.parent.name)}",
            queries=task.queries[:1],
            groups=task.groups[:1],
            digest=task.digest + file_digest([noise]) + self.settings.model_dump_json(),
        )


def demand_material(name: str, foreground: ListMaterial, root: Path, settings: DemandSettings) -> DemandMaterial:
    """DEMAND below `root` behind the sounds of a list.

    Raises:
        CorpusError: if no place has the microphone's file.
    """
    places = sorted(root.rglob(settings.microphone))
    if not places:
        raise CorpusError(f"{root}: no folder with {settings.microphone}; give DEMAND's folder of places.")
    return DemandMaterial(name, foreground, places, settings)


@functools.lru_cache(maxsize=18)
def read_noise(path: Path, sample_rate: int) -> Float32[np.ndarray, " n"]:
    """A place's noise at a rate, kept: every place is used many times."""
    return read_mono(path, sample_rate=sample_rate)[0]
