"""The classes of the open corpus: what each label is called, how people ask for it, and which labels may not meet."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from marssep.corpus.manifest import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundClass:
    """One label.

    Attributes:
        label: identifier, e.g. `sea_waves`.
        group: `instrument`, `sound` or `speech`.
        text: the plain prompt, e.g. `sea waves`.
        family: labels of one family never meet in a mixture and never count as absent for each other, because one
            contains the other (`water` and `sea_waves`) or an honest listener mixes them up (`marimba`, `xylophone`).
        captions: ways to ask for it, the first being `text`.
        audioset: names of the matching AudioSet classes.
        emoji: code points of pictures that show it.
        programs: General MIDI programs (0-based), instruments only.
        range: lowest and highest MIDI pitch to play, instruments only.
    """

    label: str
    group: Group
    text: str
    family: str
    captions: tuple[str, ...]
    audioset: tuple[str, ...] = ()
    emoji: tuple[str, ...] = ()
    programs: tuple[int, ...] = ()
    range: tuple[int, int] = (0, 0)


@cache
def load_classes() -> dict[str, SoundClass]:
    """The shipped classes by label, in the order of the file."""
    text = resources.files("marssep.corpus").joinpath("classes.json").read_text(encoding="utf-8")
    classes = {}
    for label, row in json.loads(text).items():
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        classes[label] = SoundClass(label=label, **fields)
    return classes


def class_of(label: str) -> SoundClass:
    """The class of a label; an unknown label becomes a sound of its own, named by its words."""
    known = load_classes().get(label)
    if known is not None:
        return known
    text = label.replace("_", " ")
    return SoundClass(label=label, group="sound", text=text, family=label, captions=(text, f"the sound of {text}"))


def family_of(label: str) -> str:
    """The family of a label; see `SoundClass.family`."""
    return class_of(label).family
