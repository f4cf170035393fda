"""Protocols as data: each TOML file beside this one says which mixtures are made from what, and how."""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, SettingsError, UsageError
from marssep.evaluate.material import Material
from marssep.evaluate.protocol import list_material
from marssep.evaluate.protocols.clean_plus import CleanPlusMaterial, CleanPlusSettings
from marssep.evaluate.protocols.demand import DemandSettings, demand_material
from marssep.evaluate.protocols.esc50 import Esc50Settings, esc50_material
from marssep.evaluate.protocols.stems import StemsSettings, fuss_material, stems_material
from marssep.settings import Settings

_FOLDER = Path(__file__).parent


class Protocol(Settings):
    """One protocol, as its file has it."""

    about: str
    """One sentence: what it is and where it comes from."""
    layout: Literal["lists", "clean_plus", "esc50", "fuss", "demand", "stems"]
    """How its mixtures are found; key of `LAYOUTS`."""
    needs: str
    """What the user must have, in words."""
    lists: tuple[str, ...] = ()
    """Committed lists of mixtures, each evaluated under its own name (layouts `lists` and `demand`)."""
    clean_plus: CleanPlusSettings | None = None
    esc50: Esc50Settings | None = None
    demand: DemandSettings | None = None
    stems: StemsSettings | None = None


Layout = Callable[[str, Protocol, Path | None, Corpus | None], Iterable[Material]]
"""(name, protocol, data folder, corpus) -> what is evaluated, one after the other."""


def protocol_names() -> list[str]:
    """Names of the protocols."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_protocol(name_or_path: str) -> tuple[str, Protocol]:
    """A protocol and its name.

    Args:
        name_or_path: of a protocol, or a TOML file of one's own.

    Raises:
        SettingsError: if there is no such protocol (the nearest is named) or its file is broken.
    """
    path = _FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, protocol_names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"protocols: {', '.join(protocol_names())}"
        raise SettingsError(f"{name_or_path}: no such protocol; {hint}")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not a TOML file ({error}).") from None
    return path.stem, Protocol.parse(values, source=f"protocol '{name_or_path}'")


def open_protocol(name_or_path: str, *, data: Path | None = None, corpus: Corpus | None = None) -> Iterator[Material]:
    """What a protocol evaluates, one material after the other.

    Args:
        name_or_path: of a protocol, or a TOML file of one's own.
        data: folder of the corpus that it is made from, where that is not ours.
        corpus: ours, where it is.

    Raises:
        SettingsError: if there is no such protocol.
        UsageError: if it needs a folder or a corpus that was not given.
        CorpusError: if the folder does not hold what it needs.
    """
    name, protocol = load_protocol(name_or_path)
    yield from LAYOUTS[protocol.layout](name, protocol, data, corpus)


def _lists(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> Iterator[Material]:
    ours = _our_corpus(name, protocol, corpus)
    for listed in protocol.lists:
        yield list_material(listed, ours)


def _clean_plus(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> list[Material]:
    return [CleanPlusMaterial.open(name, _data(name, protocol, data), protocol.clean_plus or CleanPlusSettings())]


def _esc50(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> list[Material]:
    return [esc50_material(name, _data(name, protocol, data), protocol.esc50 or Esc50Settings())]


def _fuss(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> list[Material]:
    return [fuss_material(name, _data(name, protocol, data), protocol.stems or StemsSettings())]


def _stems(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> list[Material]:
    return [stems_material(name, _data(name, protocol, data), protocol.stems or StemsSettings())]


def _demand(name: str, protocol: Protocol, data: Path | None, corpus: Corpus | None) -> list[Material]:
    ours, folder = _our_corpus(name, protocol, corpus), _data(name, protocol, data)
    if not protocol.lists:
        raise CorpusError(f"protocol '{name}': names no list; 'lists' must hold one list of mixtures.")
    foreground = list_material(protocol.lists[0], ours)
    return [demand_material(name, foreground, folder, protocol.demand or DemandSettings())]


LAYOUTS: Mapping[str, Layout] = {
    "lists": _lists,
    "clean_plus": _clean_plus,
    "esc50": _esc50,
    "fuss": _fuss,
    "demand": _demand,
    "stems": _stems,
}


def _data(name: str, protocol: Protocol, data: Path | None) -> Path:
    if data is None:
        raise UsageError(f"protocol '{name}' needs {protocol.needs}; name its folder with --data.")
    if not data.is_dir():
        raise CorpusError(f"{data}: no such folder; protocol '{name}' needs {protocol.needs}.")
    return data


def _our_corpus(name: str, protocol: Protocol, corpus: Corpus | None) -> Corpus:
    if corpus is None:
        raise UsageError(f"protocol '{name}' needs {protocol.needs}; name its folder with --corpus.")
    return corpus
