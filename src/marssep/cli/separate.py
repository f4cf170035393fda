"""`marssep separate`: get a sound out of recordings."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from marssep.errors import InputError, UsageError

if TYPE_CHECKING:
    from marssep.separate import Separation, Separator

_QUERY = Group("Query (at least one of text, audio, image)")
_OUTPUT = Group("Output")


@Parameter(name="*", group=_QUERY)
@dataclass(frozen=True)
class QueryOptions:
    """What is asked for.

    Attributes:
        text: The sound in words, such as 'dog barking'.
        audio: An example of the sound.
        image: A picture of what makes the sound.
        negative: A sound, in words, to keep out of the target.
    """

    text: str | None = None
    audio: Path | None = None
    image: Path | None = None
    negative: Annotated[str | None, Parameter(name="--not")] = None


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True)
class OutputOptions:
    """Where results go.

    Attributes:
        output: Folder for the results; made if missing.
        picture: Draw mixture, target, residual and mask as a PNG too.
        as_json: Print the results as JSON lines.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("separated")
    picture: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False


def separate(
    *inputs: Path,
    query: QueryOptions | None = None,
    out: OutputOptions | None = None,
    model: str = "default",
    gate: bool = True,
) -> int:
    """Get a sound out of recordings: any format that libsndfile reads, any rate, any number of channels.

    Writes NAME.QUERY.target.wav, NAME.QUERY.residual.wav (everything else) and NAME.QUERY.json for every recording.

    Args:
        inputs: Recordings.
        query: What is asked for.
        out: Where results go.
        model: A shipped model's name or a model folder.
        gate: Turn the target down when the sound seems to be absent.
    """
    query, out = query or QueryOptions(), out or OutputOptions()
    if not inputs:
        raise UsageError("No recording was named; give at least one audio file.")
    if query.text is None and query.audio is None and query.image is None:
        raise UsageError("The query has nothing in it; give --text, --audio or --image.")

    from marssep.query import Query
    from marssep.separate import Separator

    asked = Query(text=query.text, audio=query.audio, image=query.image, negative=query.negative)
    separator = Separator.load(model)
    separator.embed(asked)  # a query that cannot be used stops everything before the first recording is read
    names: set[str] = set()
    failed = 0
    for path in inputs:
        try:
            result = separator.separate_query(path, asked, gate=gate)
        except InputError as error:  # one bad file does not stop the others
            print(f"marssep: {error}", file=sys.stderr)
            failed += 1
            continue
        _report(result, separator, out, names)
    if failed and len(inputs) > 1:
        print(f"marssep: {failed} of {len(inputs)} recordings could not be separated.", file=sys.stderr)
    return 1 if failed else 0


def _report(result: "Separation", separator: "Separator", out: OutputOptions, names: set[str]) -> None:
    name = _unused(result.default_name, names)
    files = result.save(out.output, name=name, picture=out.picture)
    if out.as_json:
        row: dict[str, Any] = result.sidecar(files)
        row |= {key: str(out.output / row[key]) for key in ("target", "residual", "picture") if row[key]}
        print(json.dumps(row, ensure_ascii=False), flush=True)
        return
    print(f"{result.provenance.input}: presence {result.presence:.2f}{_absent(result)}")
    print(f"  target    {files.target}\n  residual  {files.residual}", flush=True)
    if files.picture:
        print(f"  picture   {files.picture}", flush=True)


def _absent(result: "Separation") -> str:
    if result.present:
        return ""
    down = result.provenance.attenuated_db
    return f", the sound seems to be absent{f' (target turned down by {down:g} dB)' if down else ''}"


def _unused(name: str, names: set[str]) -> str:
    """`name`, numbered if this run has written it already (two folders may hold a file of one name)."""
    unused, number = name, 2
    while unused in names:
        unused, number = f"{name}-{number}", number + 1
    names.add(unused)
    return unused
