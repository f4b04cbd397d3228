"""YAML taken at its word: every key once, numbers as written, nothing executed, each mistake told with its key."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from geomedsr.errors import RecipeError

__all__ = ["read_text", "sentence", "values_of"]

_LONGEST = 1 << 20
_DEEPEST = 32

_CORE = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""What a plain word is besides a text, and what it begins with: the core schema of YAML 1.2, without 0o7 and 0xff.

By YAML 1.1, the rules that most libraries follow, 010 is 8, 1:30 is 90, and a channel `no` is false.
Reference: YAML 1.2.2, 10.3.2
"""


def read_text(path: Path, what: str) -> str:
    """The text of a file; `what` it is, for the message.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(text) > _LONGEST:
        raise RecipeError(f"{what} {path} has more than {_LONGEST} characters; it is none.")
    return text


def values_of(text: str, origin: str, changes: Mapping[str, str] | None = None) -> object:
    """The plain values in a YAML text, with some keys changed (`{"schedule.steps": "100"}`).

    Raises:
        RecipeError: it is no YAML, or a key to change is in no section.
    """
    try:
        values: object = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
        for key, value in (changes or {}).items():
            _set(values, key, yaml.load(value, _Strict))  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{origin} is no YAML: {' '.join(str(error).split())}.") from error
    return values


class _Strict(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice, tags, references (a few lines of them fill any memory) and
    depths that nobody writes by hand.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own way to say which words are numbers
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it has a reference (*), which is not taken{event.start_mark}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"it has the tag {event.tag}, and none is taken{event.start_mark}")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError(f"it is more than {_DEEPEST} levels deep{event.start_mark}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key is no text{key.start_mark}")
            if key.value in known:
                raise yaml.YAMLError(f"the key '{key.value:.80}' is given twice{node.start_mark}")
            known.add(key.value)
        return super().construct_mapping(node, deep)

    def whole(self, node: yaml.ScalarNode) -> int:
        """A whole number as it is written."""
        return int(node.value)


for _kind, (_pattern, _starts) in _CORE.items():
    _Strict.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), list(_starts))
_Strict.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
_Strict.add_constructor("tag:yaml.org,2002:int", _Strict.whole)


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
