"""YAML taken at its word: every key once, nothing executed, and each mistake told with the key that it is at."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from geomedsr.errors import RecipeError

__all__ = ["read_text", "sentence", "values_of"]


def read_text(path: Path, what: str) -> str:
    """The text of a file; `what` it is, for the message.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def values_of(text: str, origin: str, changes: Mapping[str, str] | None = None) -> object:
    """The plain values in a YAML text, with some keys changed (`{"schedule.steps": "100"}`).

    Raises:
        RecipeError: it is no YAML, or a key to change is in no section.
    """
    try:
        values: object = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
        for key, value in (changes or {}).items():
            _set(values, key, yaml.load(value, _Strict))  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{origin} is no YAML: {' '.join(str(error).split())}.") from error
    return values


class _Strict(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice and references (a few lines of them fill any memory)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has a reference (*), which is not taken")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key '{twice}' is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _set(values: object, key: str, value: object) -> None:
    *way, last = key.split(".")
    for step in way:
        if isinstance(values, list):
            # The items of a list count from 0, as in the sentences about mistakes: then.0.schedule.steps.
            values = values[int(step)] if step.isdecimal() and int(step) < len(values) else None
        else:
            # A section that the recipe leaves to its defaults may be begun here; one that does not exist is refused
            # later.
            values = values.setdefault(step, {}) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise RecipeError(f"--set {key}: {'.'.join(way)} is no section with keys.")
    values[last] = value


def sentence(error: ValidationError) -> str:
    """What a check of values found, each mistake with its key."""
    parts = []
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            said = "no such key"
        parts.append(f"{where}: {said}" if where else said)
    return "; ".join(parts) + "."
