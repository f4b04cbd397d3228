"""Which files belong together: each input, its output, and what else is known of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geomedsr.errors import InputError
from geomedsr.io import suffix_of
from geomedsr.run.inputs import Found, archive_of, expand

__all__ = ["Couple", "are_folders", "couples"]


@dataclass(frozen=True, slots=True)
class Couple:
    """An input and its output, their common name (a path without suffix), and files that tell more of the output."""

    name: Path
    before: Path
    after: Path
    reference: Path | None = None
    uncertainty: Path | None = None
    hallucination: Path | None = None
    verify: Path | None = None


def are_folders(before: Path, after: Path) -> bool:
    """Whether two folders of images were named rather than two images.

    Raises:
        InputError: one of each.
    """
    kinds = [path.is_dir() and suffix_of(path) is None and archive_of(path) is None for path in (before, after)]
    if kinds[0] != kinds[1]:
        folder, file = (before, after) if kinds[0] else (after, before)
        raise InputError(f"{folder} is a folder and {file} is not; name two images, or two folders.")
    return kinds[0]


def couples(before: Path, after: Path, extras: dict[str, Path | None]) -> list[Couple]:
    """The couples that two images or two folders make; in folders, files of one name belong together.

    `extras` are files beside one couple, or folders with a file for each.

    Raises:
        InputError: a file is missing, or a name in one folder is not in the other.
    """
    if not are_folders(before, after):
        found = _only(before), _only(after)
        for extra in extras.values():
            _check_file(extra)
        return [Couple(_stem(found[1].relative), found[0].path, found[1].path, **extras)]
    inputs, outputs = _by_name(expand([str(before)], exclude=after)), _by_name(expand([str(after)], exclude=before))
    alone = sorted(outputs.keys() - inputs.keys())
    if alone:
        raise InputError(
            f"{len(alone)} of the {len(outputs)} images in {after} have no namesake in {before}, the first of them "
            f"{alone[0]}; an output has the name of its input, suffix apart."
        )
    return [
        Couple(name, inputs[name], path, **{key: _beside(folder, name, key) for key, folder in extras.items()})
        for name, path in outputs.items()
    ]


def _only(path: Path) -> Found:
    found = expand([str(path)])
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} images; name one of them, such as {found[0].path}.")
    return found[0]


def _stem(relative: Path) -> Path:
    suffix = suffix_of(relative) or ""
    return relative.with_name(relative.name[: len(relative.name) - len(suffix)])


def _by_name(found: Sequence[Found]) -> dict[Path, Path]:
    named: dict[Path, Path] = {}
    for image in found:
        other = named.setdefault(_stem(image.relative), image.path)
        if other != image.path:
            raise InputError(f"{other} and {image.path} differ in their suffix alone; it is not clear which is meant.")
    return named


def _check_file(path: Path | None) -> None:
    if path is not None and not path.exists():
        raise InputError(f"There is no file {path}.")


def _beside(folder: Path | None, name: Path, key: str) -> Path | None:
    """The file of a name in a folder of extras."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise InputError(f"--{key} {folder} is no folder; with folders of images it holds one file for each.")
    if key == "verify":
        path = folder / name.with_name(f"{name.name}.json")
        _check_file(path)
        return path
    path_of = _by_name(expand([str(folder)]))
    if name not in path_of:
        raise InputError(f"--{key} {folder} has no image called {name}.")
    return path_of[name]
