"""The mixtures of a protocol as files for anybody's separator, with a table of what is asked of each."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from marssep.audio import write_audio
from marssep.errors import InputError, OutputError
from marssep.evaluate.estimates import expected_name
from marssep.evaluate.material import Material, Task
from marssep.evaluate.queries import Progress
from marssep.evaluate.results import write_text

TABLE = "queries.csv"
"""Name of the table beside the mixtures."""

_COLUMNS = ("mixture", "query", "present", "label", "text", "audio", "image", "estimate")


def write_mixtures(
    material: Material, folder: Path, *, limit: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Write `MIXTURE.wav` (32-bit float), what they are asked by (`queries/`), and `queries.csv`.

    The column `estimate` holds the name that `--estimates` looks for, without a kind of query; `.text`, `.audio`,
    `.image` or `.composed` may follow before the extension.

    Args:
        material: the mixtures.
        folder: made if missing.
        limit: only the first so-many.
        progress: told of every mixture.

    Returns:
        Ids of the mixtures that could not be made.

    Raises:
        OutputError: if the folder cannot be written.
    """
    try:
        (folder / "queries").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another folder.") from None
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_COLUMNS)
    left_out = []
    tasks = material.tasks[:limit]
    for number, task in enumerate(tasks, start=1):
        try:
            if task.missing:
                raise InputError(f"{task.id}: {', '.join(task.missing)} not there.")
            rendered = material.render(task)
        except InputError:
            left_out.append(task.id)
            continue
        write_audio(folder / f"{task.id}.wav", rendered.mixture.numpy(), sample_rate=rendered.sample_rate)
        table.writerows(_rows(material, task, folder))
        if progress is not None:
            progress("mixtures", number, len(tasks))
    write_text(folder / TABLE, out.getvalue())
    return left_out


def _rows(material: Material, task: Task, folder: Path) -> Iterator[list[str]]:
    for index, query in enumerate(task.all_queries):
        name, audio, image = expected_name(task, index, None), "", ""
        if query.audio and material.has(query.audio):
            audio = f"queries/{name}.wav"
            waveform, rate = material.recordings(query.audio)[0]
            write_audio(folder / audio, waveform, sample_rate=rate)
        if query.image and material.has(query.image):
            image = f"queries/{name}.png"
            material.pictures(query.image)[0].save(folder / image)
        present = str(int(index < len(task.queries)))
        yield [task.id, str(index), present, query.label, query.text, audio, image, f"{name}.wav"]
