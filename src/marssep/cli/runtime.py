"""`marssep runtime`: separate with an exported model, without torch."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from marssep.errors import InputError, UsageError


def runtime(
    folder: Path,
    *inputs: Path,
    text: str | None = None,
    audio: Path | None = None,
    image: Path | None = None,
    negative: Annotated[tuple[str, ...], Parameter(name="--not", negative=())] = (),
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("separated"),
    threads: int | None = None,
) -> int:
    """Separate recordings with a model that `marssep export` wrote; starts in a fraction of the time torch takes.

    Writes NAME.QUERY.target.wav and NAME.QUERY.residual.wav as 32-bit float, and prints a JSON line for each recording.

    Args:
        folder: Of the exported model.
        inputs: Recordings.
        text: A stored query, or any words if the text encoder was exported.
        audio: An example of the sound.
        image: A picture of it, if the image encoder was exported.
        negative: A sound, in words, to keep out of the target; give it several times for several sounds.
        output: Folder for the results; made if missing.
        threads: CPU threads of the networks; by default as many as there are processors.
    """
    from marssep.audio import slug
    from marssep.runtime import Runtime

    if not inputs:
        raise UsageError("No recording was named; give at least one audio file.")
    loaded = Runtime.load(folder, threads=threads)
    asked = [text, *(path and path.stem for path in (audio, image)), *(f"not {words}" for words in negative)]
    query = slug(" ".join(words for words in asked if words))
    failed = 0
    for path in inputs:
        try:
            beginning = output / f"{path.stem}.{query}"
            result = loaded.separate_file(path, beginning, text=text, audio=audio, image=image, negative=negative)
        except InputError as error:  # one bad file does not stop the others
            print(f"marssep: {error}", file=sys.stderr)
            failed += 1
            continue
        row = {"input": str(path), "presence": round(result.presence, 6), "present": result.present}
        print(
            json.dumps(row | {part: str(file) for part, file in result.files.items()}, ensure_ascii=False), flush=True
        )
    return 1 if failed else 0
