"""The kinds of part there are."""

from collections.abc import Callable

from marssep.query.pretrained.parts import ClapPart, ClipPart, Part, PeAudioPart, PeAvPart, SiglipPart
from marssep.query.pretrained.sentences import SentencesPart
from marssep.query.pretrained.shipped import OpenPart

PARTS: dict[str, Callable[[str], Part]] = {
    "clap": ClapPart,
    "clip": ClipPart,
    "siglip": SiglipPart,
    "pe-a": PeAudioPart,
    "pe-av": PeAvPart,
    "sentences": SentencesPart,
    "open": OpenPart,
}
"""Kinds of part by the name they have in an encoder's specification."""
