"""The tree at the top of the file is the tree, and each error has the exit code that it promises."""

from __future__ import annotations

import re

import pytest

from geomedsr import errors
from geomedsr.errors import GeomedsrError


def drawn() -> dict[str, tuple[str | None, int]]:
    """Each name in the docstring with its parent and its exit code."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"([ │├└─]*)(\w+Error)\b(.*)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        parent = path[depth - 1] if depth else None
        code = re.search(r"exit code (\d+)", match[3])
        found[match[2]] = (parent, int(code[1]) if code else found[parent or ""][1])
    return found


def real(kind: type[GeomedsrError], parent: str | None = None) -> dict[str, tuple[str | None, int]]:
    below = {kind.__name__: (parent, kind.exit_code)}
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            below |= real(child, kind.__name__)
    return below


def test_the_drawn_tree_is_the_real_tree() -> None:
    assert drawn() == real(GeomedsrError)


def test_all_are_exported() -> None:
    assert sorted(errors.__all__) == sorted(real(GeomedsrError))


@pytest.mark.parametrize(
    ("name", "code"), [("GeomedsrError", 2), ("InputError", 2), ("NothingMatchedError", 3), ("WriteFailedError", 1)]
)
def test_exit_codes(name: str, code: int) -> None:
    assert getattr(errors, name)("what was asked").exit_code == code


def test_the_text_is_the_message() -> None:
    assert str(errors.InputError("There is no file a.tif.")) == "There is no file a.tif."
