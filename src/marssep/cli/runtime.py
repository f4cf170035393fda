"""`marssep runtime`: separate with an exported model, without torch."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from marssep.cli.asking import parse_weights
from marssep.errors import InputError, UsageError

if TYPE_CHECKING:
    from marssep.runtime import RuntimeQuery


@Parameter(name="*", group=Group("Query (at least one of text, audio, image)"))
@dataclass(frozen=True)
class RuntimeOptions:
    """What is asked for.

    Attributes:
        text: A stored query, or any words if the text encoder was exported.
        audio: An example of the sound.
        image: A picture of it, if the image encoder was exported.
        weights: Of the kinds given, such as text=2,audio=1; by default text=2,image=2,audio=1.
        negative: A sound, in words, to keep out of the target; give it several times for several sounds.
    """

    text: str | None = None
    audio: Path | None = None
    image: Path | None = None
    weights: str | None = None
    negative: Annotated[tuple[str, ...], Parameter(name="--not", negative=())] = ()

    def query(self) -> "RuntimeQuery":
        """For the runtime.

        Raises:
            UsageError: if the weights are none, or of what is not there.
        """
        given: RuntimeQuery = {"text": self.text, "audio": self.audio, "image": self.image, "negative": self.negative}
        if self.weights is not None:
            kinds = {kind for kind in ("text", "audio", "image") if given.get(kind) is not None}
            given["weights"] = parse_weights(self.weights, kinds)
        return given

    def slug(self) -> str:
        """For names of files."""
        from marssep.audio import slug

        asked = [self.text, *(path and path.stem for path in (self.audio, self.image))]
        return slug(" ".join(words for words in (*asked, *(f"not {words}" for words in self.negative)) if words))


def runtime(
    folder: Path,
    *inputs: Path,
    query: RuntimeOptions | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("separated"),
    threads: int | None = None,
    gate: bool = True,
    adapt: bool = True,
) -> int:
    """Separate recordings with a model that `marssep export` wrote; starts in a fraction of the time torch takes.

    Writes NAME.QUERY.target.wav and NAME.QUERY.residual.wav as 32-bit float, and prints a JSON line for each recording.

    Args:
        folder: Of the exported model.
        inputs: Recordings.
        query: What is asked for.
        output: Folder for the results; made if missing.
        threads: CPU threads of the networks; by default as many as there are processors.
        gate: Turn the target down when the sound seems to be absent.
        adapt: Learn from the recording itself what its sounds look like and where they come from.
    """
    from marssep.runtime import Runtime

    if not inputs:
        raise UsageError("No recording was named; give at least one audio file.")
    asked = query or RuntimeOptions()
    wanted = asked.query()
    loaded = Runtime.load(folder, threads=threads)
    ready = loaded.ask(**wanted)  # a query that cannot be used stops everything before the first recording is read
    slug, failed = asked.slug(), 0
    for path in inputs:
        try:
            name = output / f"{path.stem}.{slug}"
            result = loaded.separate_file(path, name, gate=gate, adapt=adapt, asked=ready)
        except InputError as error:  # one bad file does not stop the others
            print(f"marssep: {error}", file=sys.stderr)
            failed += 1
            continue
        row = {"input": str(path), "presence": round(result.presence, 6), "present": result.present}
        print(
            json.dumps(row | {part: str(file) for part, file in result.files.items()}, ensure_ascii=False), flush=True
        )
    return 1 if failed else 0
