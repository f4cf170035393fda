"""Presets: each TOML file beside this one is a complete experiment; overrides change single values by dotted path."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from marssep.errors import SettingsError
from marssep.train.reinforce_settings import ReinforceSettings
from marssep.train.settings import SupervisedSettings

PROGRAMS: Mapping[str, type[SupervisedSettings]] = {"supervised": SupervisedSettings, "reinforce": ReinforceSettings}
"""What a preset may be for; its file says so where it is not 'supervised'."""

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_preset(name_or_path: str, overrides: Iterable[str] = ()) -> SupervisedSettings:
    """Settings of a preset with overrides applied.

    Args:
        name_or_path: a shipped preset, or a TOML file of one's own (`base = "NAME"` builds on a shipped one).
        overrides: `a.b=value` with a TOML value; a value that is no TOML is taken as text.

    Raises:
        SettingsError: for an unknown preset or key (the nearest known one is named) or a value out of range.
    """
    values = _read(name_or_path)
    for override in overrides:
        _apply(values, override)
    program = values.pop("program", "supervised")
    if program not in PROGRAMS:
        raise SettingsError(f"preset '{name_or_path}': program = {program!r} is none of {', '.join(PROGRAMS)}.")
    return PROGRAMS[program].parse(values, source=f"preset '{name_or_path}'")


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """`a.b=value` pairs as nested values; a value that is no TOML is taken as text.

    Raises:
        SettingsError: for a pair without a sign, or a key below a single value.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _apply(values, override)
    return values


def _read(name_or_path: str) -> dict[str, Any]:
    path = _FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, preset_names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"presets: {', '.join(preset_names())}"
        raise SettingsError(f"{name_or_path}: no such preset; {hint}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not a TOML file ({error}).") from None
    base = values.pop("base", None)
    return values if base is None else _merge(_read(base), values)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SettingsError(f"'{override}': an override is written key.subkey=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise SettingsError(f"'{override}': '{parent}' is a single value and has no key '{last}'.")
    values[last] = value
