"""What the user names (files, folders, globs, arrays inside an archive) as a list of images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geomedsr.errors import GeomedsrError, InputError, NothingMatchedError
from geomedsr.io import format_of, is_archive, is_url, suffix_of, suffixes

__all__ = ["Found", "archive_of", "expand", "told"]


@dataclass(frozen=True, slots=True)
class Found:
    """An image, and the path below what the user named: what its output is called in a folder.

    What was named and cannot be an image has the `failure` that says why.
    """

    path: Path
    relative: Path
    failure: GeomedsrError | None = None


def expand(inputs: Sequence[str], exclude: Path | None = None, *, keep_going: bool = False) -> list[Found]:
    """The images that the inputs name, in their order, each once.

    Nothing in `exclude` (the output's folder) is one where that lies inside a folder that was named. With `keep_going`
    what cannot be an image is in the list, too, with its failure.

    Raises:
        InputError: a named file does not exist or has no known suffix.
        NothingMatchedError: a folder or a glob holds no image.
    """
    found: dict[Path, Found] = {}
    for text in inputs:
        for image in _tried(text, exclude):
            if image.failure is not None and not keep_going:
                raise image.failure
            found.setdefault(image.path, image)
    return list(found.values())


def _tried(text: str, exclude: Path | None) -> Iterator[Found]:
    try:
        yield from _expand_one(text, exclude)
    except GeomedsrError as error:
        yield Found(Path(text), Path(Path(text).name), error)


def archive_of(path: Path) -> Path | None:
    """The archive that a path lies in (`a.zarr` of `a.zarr/r10m/b02`), or None."""
    parents = reversed(path.parents)
    return next((parent for parent in parents if is_archive(parent)), None)


def told(path: Path) -> str:
    """What an image is called in a message: the name of its file, and where it lies in an archive."""
    archive = archive_of(path)
    return path.name if archive is None else path.relative_to(archive.parent).as_posix()


def _expand_one(text: str, exclude: Path | None) -> Iterator[Found]:
    path = Path(text)
    looked = f"looked for {', '.join(sorted(suffixes()))}"
    if archive_of(path) is not None or (path.exists() and suffix_of(path) is not None) or is_url(path):
        yield from _some(_members(path, Path(path.name)), f"The archive {path}", "looked for arrays of 2 or 3 axes")
    elif path.is_dir():
        yield from _some(_folder(path, exclude), f"The folder {path}", looked)
    elif path.exists():
        yield from _members(path, Path(path.name))
    elif glob.has_magic(text):
        yield from _some(_glob(text, exclude), f"The pattern {text}", looked)
    else:
        raise InputError(f"There is no file {path}.")


def _some(images: Iterator[Found], what: str, looked: str) -> Iterator[Found]:
    first = next(images, None)
    if first is None:
        raise NothingMatchedError(f"{what} holds no image; {looked}.")
    yield first
    yield from images


def _folder(folder: Path, exclude: Path | None) -> Iterator[Found]:
    exclude = _inside(exclude, folder)
    for path in _walk(folder, exclude):
        yield from _members(path, path.relative_to(folder))


def _glob(pattern: str, exclude: Path | None) -> Iterator[Found]:
    base = _fixed_part(pattern)
    exclude = _inside(exclude, base)
    for text in sorted(glob.glob(pattern, recursive=True)):
        path = Path(text)
        if suffix_of(path) is None or archive_of(path) is not None or _below(path, exclude):
            continue
        yield from _members(path, path.relative_to(base))


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _walk(folder: Path, exclude: Path | None) -> Iterator[Path]:
    """The images below a folder, sorted; hidden names are left alone, an archive is one image."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith(".") or _below(path, exclude):
            continue
        if suffix_of(path) is not None:
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, exclude)


def _inside(exclude: Path | None, folder: Path) -> Path | None:
    """What to leave out of a folder: the output's folder where it lies inside, not where it is that folder or above."""
    if exclude is None or exclude.resolve() == folder.resolve() or not _below(exclude, folder):
        return None
    return exclude


def _below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())


def _members(path: Path, relative: Path) -> Iterator[Found]:
    try:
        members = list(format_of(path).members(path))
    except GeomedsrError as error:  # one broken archive among many images is one failure
        yield Found(path, relative, error)
        return
    for member in members:
        inner = member.relative_to(path).parts if len(members) > 1 else ()
        yield Found(member, _with_inner(relative, inner))


def _with_inner(relative: Path, inner: tuple[str, ...]) -> Path:
    """The name for an image inside an archive: `scene.zarr` and `r10m/b02` give `scene_r10m_b02.zarr`."""
    if not inner:
        return relative
    suffix = suffix_of(relative) or ""
    stem = relative.name[: len(relative.name) - len(suffix)]
    return relative.with_name("_".join((stem, *inner)) + suffix)
