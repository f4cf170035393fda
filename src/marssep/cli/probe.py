"""`marssep probe`: say whether a sound is in a recording, and where."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from marssep.cli.asking import QueryOptions
from marssep.errors import UsageError

if TYPE_CHECKING:
    from marssep.separate.probing import Probe

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60  # columns of the curve


def probe(
    input: Path,
    *,
    query: QueryOptions | None = None,
    model: str = "default",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
) -> None:
    """Say whether a sound is in a recording, and when; nothing is separated.

    Args:
        input: The recording.
        query: What is asked for; several queries are answered in one pass.
        model: A shipped model's name or a model folder.
        output: Draw the recording and the curves into this PNG file.
        as_json: Print one JSON object for each query.
    """
    queries = (query or QueryOptions()).queries()
    if output is not None and output.suffix.lower() != ".png":
        raise UsageError(f"{output}: the picture is a PNG; give it a name that ends with .png.")
    from marssep.audio import AudioFile
    from marssep.separate import Separator, probing
    from marssep.separate.picture import asked_for, draw_probes
    from marssep.separate.sources import FileSource, check_rate

    separator = Separator.load(model)
    with AudioFile(input) as file:
        check_rate(file.sample_rate, name=file.name)
        source = FileSource(file)
        probes = probing.probe(separator, source, queries)
        if output is not None:
            draw_probes(source, probes, output, spectral=separator.model.spectral)
    picture = None if output is None else str(output)
    for each in probes:
        if as_json:
            facts = {"input": str(input), "model": separator.name, "model_sha256": separator.model.sha256}
            print(json.dumps(facts | each.row() | {"picture": picture}, ensure_ascii=False))
        else:
            print(_in_words(str(input), asked_for(each.query), each))
    if picture and not as_json:
        print(f"  picture   {picture}")


def _in_words(name: str, asked: str, found: "Probe") -> str:
    from marssep.query import describe_time

    verdict = "is there" if found.present else "does not seem to be there"
    lines = [
        f"{name}: {asked} {verdict} (presence {found.presence:.2f}, threshold {found.threshold:.2f})",
        f"  {_curve(found.confidence)}  0:00 to {describe_time(found.duration)}",
    ]
    if not found.where:
        lines.append(f"  nowhere likely; surest at {found.surest} ({found.surest.confidence:.2f})")
    lines += [f"  {each!s:<13} {each.confidence:.2f}" for each in found.where]
    return "\n".join(lines)


def _curve(confidence: Sequence[float]) -> str:
    """Confidence as a row of bars; of a long recording the highest of every column's seconds."""
    width = -(-len(confidence) // _WIDEST)
    columns = [max(confidence[at : at + width]) for at in range(0, len(confidence), width)]
    return "".join(_BARS[min(int(each * len(_BARS)), len(_BARS) - 1)] for each in columns)
