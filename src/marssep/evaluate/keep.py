"""Recordings of an evaluation that are kept to be looked at and listened to, as `marssep.evaluate.kept` lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from marssep.audio import write_audio
from marssep.errors import OutputError
from marssep.evaluate.kept import KeptItem, write_kept
from marssep.evaluate.material import Material, Rendered, Task
from marssep.evaluate.running import Scored, one_thread_each
from marssep.evaluate.scores import Score
from marssep.evaluate.settings import EvaluateSettings
from marssep.evaluate.systems import System

AUDIO = "audio"
"""Folder of the recordings inside a run folder."""

_Query = tuple[str, int]


def keep_audio(
    folder: Path, material: Material, systems: Sequence[System], scored: Scored, *, settings: EvaluateSettings
) -> Path:
    """Separate chosen queries once more and write what everybody made of them as 24-bit FLAC.

    Where a recording of a mixture passes full scale, all of that mixture are turned down alike, so that none is cut.

    Args:
        folder: of the run.
        material: the mixtures.
        systems: whose estimates are kept; doing nothing is left out, since the mixture itself is there.
        scored: what was measured.
        settings: how many to keep.

    Returns:
        The path of `items.jsonl`.

    Raises:
        OutputError: if the folder cannot be written.
    """
    chosen = choose_queries(scored, settings.keep_audio)
    tasks = {task.id: task for task in scored.tasks}
    wanted = [tasks[name] for name in dict.fromkeys(mixture for mixture, _ in chosen)]
    items: list[KeptItem] = []
    _make(folder / AUDIO)
    with one_thread_each(), torch.inference_mode():
        for system in systems:
            system.prepare(wanted, jobs=settings.jobs, progress=None)
        for task in wanted:
            queries = sorted(query for mixture, query in chosen if mixture == task.id)
            items += _keep_mixture(folder, material, systems, task, queries)
    path = write_kept(folder, items)
    used = {name for item in items for name in _files(item)}
    for old in (folder / AUDIO).iterdir():  # of an earlier choice
        if f"{AUDIO}/{old.name}" not in used:
            old.unlink(missing_ok=True)
    return path


def choose_queries(scored: Scored, count: int) -> list[_Query]:
    """`count` present queries evenly spread over the list, and the best, median and worst by text of the main system.

    The main system is the first one that is asked, or the last one if nobody is.
    """
    asked = next((score.system for score in scored.scores if score.modality is not None), None)
    last = scored.scores[-1].system if scored.scores else ""
    ours = [score for score in scored.scores if score.system == (asked or last) and score.present]
    first_kind = "text" if any(score.modality == "text" for score in ours) else ours[0].modality if ours else None
    ours = [score for score in ours if score.modality == first_kind]
    known = sorted((s for s in ours if np.isfinite(s.si_sdr_improvement_db)), key=_by_gain)
    places = np.linspace(0, len(ours) - 1, min(count, len(ours)))
    chosen = [ours[round(place)].key for place in places.tolist()]
    chosen += [known[place].key for place in (-1, len(known) // 2, 0)] if known else []
    return list(dict.fromkeys(chosen))


def _by_gain(score: Score) -> float:
    return score.si_sdr_improvement_db


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the recordings of one mixture, all turned down by `gain`."""

    folder: Path
    gain: float

    def write(self, name: str, waveform: np.ndarray, sample_rate: int) -> str:
        """Write one and return its path relative to the run folder."""
        path = f"{AUDIO}/{name}.flac"
        write_audio(self.folder / path, self.gain * waveform, sample_rate=sample_rate, subtype="PCM_24")
        return path


def _keep_mixture(
    folder: Path, material: Material, systems: Sequence[System], task: Task, queries: Sequence[int]
) -> list[KeptItem]:
    rendered = material.render(task)
    estimates = _estimates(systems, task, rendered, queries)
    made = [estimate for by_system in estimates.values() for estimate in by_system.values()]
    peak = max(float(waveform.abs().max()) for waveform in (rendered.mixture, *rendered.sources, *made))
    writer, rate = _Writer(folder, 1.0 / max(1.0, peak)), rendered.sample_rate
    mixture = writer.write(f"{task.id}.mixture", rendered.mixture.numpy(), rate)
    items = []
    for index, by_system in estimates.items():
        if not by_system:
            continue
        asked, stem = task.queries[index], f"{task.id}.{index}"
        items.append(
            KeptItem(
                mixture_id=task.id,
                query=index,
                label=asked.label,
                text=asked.text,
                mixture=mixture,
                reference=writer.write(f"{stem}.reference", rendered.sources[index].numpy(), rate),
                estimates={
                    name: writer.write(f"{stem}.{name.replace('/', '.')}", estimate.numpy(), rate)
                    for name, estimate in by_system.items()
                },
                image=_picture(folder, material, asked.image, stem),
                audio=_recording(folder, material, asked.audio, stem),
            )
        )
    return items


def _estimates(
    systems: Sequence[System], task: Task, rendered: Rendered, queries: Sequence[int]
) -> dict[int, dict[str, Tensor]]:
    estimates: dict[int, dict[str, Tensor]] = {query: {} for query in queries}
    for system in systems:
        if system.name == "mixture":
            continue
        for answer in system.answers(task, rendered)[0]:
            name = system.name if answer.modality is None else f"{system.name}/{answer.modality}"
            for index, estimate in zip(answer.indices, answer.estimate, strict=True):
                if index in estimates:
                    estimates[index][name] = estimate
    return estimates


def _picture(folder: Path, material: Material, key: str | None, stem: str) -> str | None:
    if not key or not material.has(key):
        return None
    path = f"{AUDIO}/{stem}.query.png"
    material.pictures(key)[0].save(folder / path)
    return path


def _recording(folder: Path, material: Material, key: str | None, stem: str) -> str | None:
    if not key or not material.has(key):
        return None
    waveform, rate = material.recordings(key)[0]
    return _Writer(folder, 1.0 / max(1.0, float(np.abs(waveform).max()))).write(f"{stem}.query", waveform, rate)


def _files(item: KeptItem) -> list[str]:
    named = [item.mixture, item.reference, *item.estimates.values(), item.image, item.audio]
    return [name for name in named if name]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --run-folder.") from None
