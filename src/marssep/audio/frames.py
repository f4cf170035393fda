"""One picture out of a film, through the same door as its sound."""

from pathlib import Path
from typing import TYPE_CHECKING

from marssep.audio.containers import decode_picture, film_format

if TYPE_CHECKING:
    from PIL import Image  # the runtime without torch does without Pillow


def read_frame(path: Path, *, at: float = 0.5) -> "Image.Image | None":
    """The picture at a share of a film's length; None if the file is no film.

    Args:
        path: of the film.
        at: 0 is its beginning, 1 its end.

    Raises:
        InputError: PyAV is not installed, or the film cannot be decoded.
    """
    with path.open("rb") as file:
        format_name = film_format(file)
        return None if format_name is None else decode_picture(file, format_name=format_name, name=str(path), at=at)
