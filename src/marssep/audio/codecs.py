"""What libsndfile can read and write on this machine."""

from dataclasses import dataclass

import soundfile


@dataclass(frozen=True, slots=True)
class Codecs:
    """What was found.

    Attributes:
        libsndfile: its version.
        formats: names of containers, as soundfile has them.
        subtypes: names of sample formats for each container.
    """

    libsndfile: str
    formats: tuple[str, ...]
    subtypes: dict[str, tuple[str, ...]]


def codecs() -> Codecs:
    """Ask libsndfile."""
    formats = tuple(soundfile.available_formats())
    subtypes = {name: tuple(soundfile.available_subtypes(name)) for name in formats}
    return Codecs(str(soundfile.__libsndfile_version__), formats, subtypes)
