"""The base of every settings class: frozen, strict about unknown keys, and helpful about misspelt ones."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from marssep.errors import SettingsError

_S = TypeVar("_S", bound="Settings")


class Settings(BaseModel):
    """Immutable settings with units and reasons in the docstrings of their fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def parse(cls: type[_S], values: Mapping[str, Any], *, source: str) -> _S:
        """Validate `values`, naming the nearest known key for an unknown one.

        What a nested group leaves out is what the class has there, also where the default is not the group's own.

        Args:
            values: nested mapping, as read from TOML or JSON.
            source: where the values come from (a preset or a file), for the message.

        Raises:
            SettingsError: with every mistake in one sentence each.
        """
        try:
            defaults = {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}
            return cls.model_validate(_complete(defaults, values))
        except ValidationError as error:
            raise SettingsError(f"{source}: " + "; ".join(_explain(cls, item) for item in error.errors())) from None


def _complete(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the rest of every group that they change a part of."""
    complete = dict(values)
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(default, Settings) and isinstance(value, Mapping):
            rest = {key: getattr(default, key) for key in type(default).model_fields}
            complete[name] = rest | _complete(rest, value)
    return complete


def _explain(model: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path)
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']} (got {item.get('input')!r})"
    owner: Any = model
    for part in path[:-1]:
        field = owner.model_fields.get(part) if hasattr(owner, "model_fields") else None
        owner = field.annotation if field is not None else None
    known = list(owner.model_fields) if hasattr(owner, "model_fields") else []
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key '{name}'; {hint}"
