"""The doors to files: one module a format. `format_of` finds the one that fits a path."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from geomedsr import registry
from geomedsr.errors import InputError
from geomedsr.image import Format
from geomedsr.io._limits import Limits, boundless, limits, size, within
from geomedsr.io._zarr_place import Place, is_url, reach_errors

__all__ = [
    "Limits",
    "boundless",
    "exists_at",
    "files_of",
    "format_of",
    "is_archive",
    "is_url",
    "levels_of",
    "limits",
    "size",
    "suffix_of",
    "suffixes",
    "within",
]


@cache
def suffixes() -> dict[str, str]:
    """Each known suffix and the format that reads it, longest suffix first."""
    table: dict[str, str] = {}
    for name, module in _doors().items():
        if not isinstance(module, str):
            table.update(dict.fromkeys(module.SUFFIXES, name))
    return dict(sorted(table.items(), key=lambda item: -len(item[0])))


@cache
def _doors() -> dict[str, ModuleType | str]:
    """Each format's module, or the name of the library that it stands on and that is not installed."""
    doors: dict[str, ModuleType | str] = {}
    for name in registry.names("io"):
        try:
            doors[name] = registry.load("io", name)
        except ModuleNotFoundError as error:
            doors[name] = str(error.name)
    return doors


def suffix_of(path: Path) -> str | None:
    """The known suffix that a path ends with, such as `.nii.gz`, or None."""
    name = path.name.lower()
    return next((suffix for suffix in suffixes() if name.endswith(suffix)), None)


def exists_at(path: Path) -> bool:
    """Whether a name is taken, on the disk (also by a link that leads nowhere) or at a URL.

    Raises:
        OutputError: the URL cannot be reached.
    """
    if not is_url(path):
        return os.path.lexists(path)
    with reach_errors(Place(path)):
        return Place(path).exists()


def is_archive(path: Path) -> bool:
    """Whether a path may hold images: a folder, or something at a URL, with a known suffix."""
    return suffix_of(path) is not None and (is_url(path) or path.is_dir())


def format_of(path: Path) -> Format:
    """The format of a path, by its suffix; an image inside an archive (`scene.zarr/r10m/b02`) has the archive's.

    Raises:
        InputError: no format has that suffix.
    """
    archives = [parent for parent in path.parents if is_archive(parent)]
    suffix = suffix_of(path) or (suffix_of(archives[0]) if archives else None)
    if is_url(path) and suffix != ".zarr":
        raise InputError(f"{Place(path)} is a URL and no zarr store; fetch other files first (a store ends in .zarr).")
    if suffix is None:
        shut = [f"{name} needs {missing}" for name, missing in _doors().items() if isinstance(missing, str)]
        closed = f"; {', '.join(shut)}, which is not installed" if shut else ""
        raise InputError(f"{path} has no suffix that is known; known are {', '.join(sorted(suffixes()))}{closed}.")
    return cast(Format, registry.load("io", suffixes()[suffix]))


def levels_of(path: Path) -> tuple[Path, ...]:
    """The resolutions of the image at a path, finest first: a path each, or only its own where its format has one.

    Raises:
        InputError: its metadata is broken.
    """
    levels = getattr(format_of(path), "levels", None)
    return (path,) if levels is None else cast(tuple[Path, ...], levels(path))


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that the voxels at a path come from: its own, and those that it names.

    Raises:
        InputError: it names what it may not.
    """
    found = getattr(format_of(path), "files_of", None)
    return (path,) if found is None or not path.is_file() else tuple(found(path))
