"""Where the outputs go, and whether they may: decided for all inputs before any work starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geomedsr.errors import GeomedsrError, OutputError
from geomedsr.image import ImageSpec
from geomedsr.io import exists_at, files_of, is_url, size, suffix_of, suffixes
from geomedsr.io._staging import write_errors
from geomedsr.run.inputs import Found, archive_of
from geomedsr.run.sidecar import bids_name

__all__ = [
    "FORMATS",
    "Inputs",
    "Job",
    "check_apart",
    "check_conversion",
    "check_folder",
    "check_space",
    "check_target",
    "is_file_target",
    "make_folder",
    "plan_targets",
]

FORMATS = {"nii": ".nii", "nii.gz": ".nii.gz", "tif": ".tif", "cog": ".tif", "zarr": ".zarr"}
"""The output formats by the name that `--format` takes."""

_WRITTEN_AS = {".jp2": ".tif", ".vrt": ".tif"}
"""Formats that are read but not written, and what is written instead."""


_PAIRED = (".hdr", ".img", ".hdr.gz", ".img.gz")


@dataclass(frozen=True, slots=True)
class Job:
    """One image to upscale, and where to; `maps` are the maps to write beside, by kind."""

    source: Path
    target: Path
    maps: Mapping[str, Path] = field(default_factory=dict, hash=False)


def is_file_target(out: Path) -> bool:
    """Whether an output names a file (it ends with a known suffix) rather than a folder.

    Raises:
        OutputError: it looks like a file of an unknown kind.
    """
    if suffix_of(out) is not None:
        return True
    if out.suffix and not out.is_dir():
        known = ", ".join(sorted(suffixes()))
        raise OutputError(f"The output {out} has no suffix that is known; known are {known} (a folder has none).")
    return False


def plan_targets(found: Sequence[Found], out: Path, form: str | None = None, *, bids: bool = False) -> list[Job]:
    """Each image with its output: `out` itself where that is a file, the same name below it where it is a folder.

    With `bids` that name is the derivative's.

    Raises:
        OutputError: several images for one file, two images with one name, or a folder that cannot be.
    """
    if is_file_target(out):
        if len(found) != 1:
            raise OutputError(f"{len(found)} images cannot go into the one file {out}; give a folder as the output.")
        _check_suffix(out, form)
        jobs = [Job(found[0].path, out)]
    else:
        named = [_named(image.relative, form) for image in found]
        named = [path.with_name(bids_name(path.name)) for path in named] if bids else named
        jobs = [Job(image.path, out / path) for image, path in zip(found, named, strict=True)]
    _check_distinct(jobs)
    check_folder(out.parent if is_file_target(out) else out)
    return jobs


def _check_suffix(out: Path, form: str | None) -> None:
    if form is not None and suffix_of(out) != FORMATS[form] and not (FORMATS[form] == ".tif" and out.suffix == ".tiff"):
        raise OutputError(f"The output {out.name} does not end with {FORMATS[form]}, as --format {form} asks.")


def _named(relative: Path, form: str | None) -> Path:
    suffix = suffix_of(relative)
    if suffix is None:  # an array inside an archive: it has a name and no suffix
        return relative.with_name(relative.name + (FORMATS[form] if form else ".zarr"))
    wanted = FORMATS[form] if form else _WRITTEN_AS.get(suffix, relative.name[-len(suffix) :])
    return relative.with_name(relative.name[: -len(suffix)] + wanted)


def _check_distinct(jobs: Sequence[Job]) -> None:
    seen: dict[Path, Path] = {}
    for job in jobs:
        other = seen.setdefault(job.target, job.source)
        if other != job.source:
            raise OutputError(
                f"{other} and {job.source} would both become {job.target}; upscale them into two folders."
            )


def check_folder(folder: Path) -> None:
    """An output's folder exists and can be written, or can be made because its parent exists.

    Raises:
        OutputError: neither is so.
    """
    if is_url(folder):
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"The output folder {folder} is a file.")
    existing = folder if folder.is_dir() else folder.parent
    if not existing.is_dir():
        raise OutputError(f"The folder {existing} does not exist; make it first, or choose another output.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"Nothing can be written into the folder {existing}: it is read-only.")


def check_target(job: Job, inputs: Inputs, *, replace: bool) -> None:
    """Whether a target may be written: it is no input, and it is free or may be replaced.

    Raises:
        OutputError: it may not.
    """
    check_apart(job, inputs)
    taken = next((path for path in _halves(job.target) if exists_at(path)), None)
    if taken is not None and not replace:
        raise OutputError(f"{taken} exists already; pass --overwrite to replace it or --skip-existing to keep it.")
    if job.target.is_dir() and suffix_of(job.target) is not None and not _is_archive(job.target):
        raise OutputError(f"{job.target} is a folder that no image is in; it is not replaced.")


def check_apart(job: Job, inputs: Inputs) -> None:
    """Whether a target is none of the inputs.

    Raises:
        OutputError: it is one.
    """
    source = Inputs([job.source]).touched_by(job.target) or inputs.touched_by(job.target)
    if source is not None:
        raise OutputError(f"The output {job.target} is the input {source}; choose another output.")


def _halves(target: Path) -> list[Path]:
    """The files that an output consists of: two for a `.hdr` and `.img` pair."""
    base = _pair(target)
    if base is None:
        return [target]
    packed = ".gz" if target.name.lower().endswith(".gz") else ""
    return [base.with_name(f"{base.name}{half}{packed}") for half in (".hdr", ".img")]


def _is_archive(folder: Path) -> bool:
    """Whether a folder looks like a zarr: only such a folder may be replaced."""
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


class Inputs:
    """All inputs of a run, to be asked of each output whether writing it would touch one of them.

    They are looked up by what an output can have in common with them, so that thousands of files take no square.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files: dict[tuple[int, int], Path] = {}
        self._above: dict[Path, Path] = {}
        self._archives: dict[Path, Path] = {}
        self._pairs: dict[Path, Path] = {}
        for path in paths:
            inside = path.resolve()
            for file in _read_from(path):
                self._files[_identity(file)] = path
            self._above.update(dict.fromkeys((inside, *inside.parents), path))
            self._archives[(archive_of(path) or path).resolve()] = path
            if (base := _pair(inside)) is not None:
                self._pairs[base] = path

    def touched_by(self, target: Path) -> Path | None:
        """The input that a target is (also through links), lies in the archive of, is a half of, or holds; or None."""
        if target.exists() and (same := self._files.get(_identity(target))) is not None:
            return same
        outside = target.resolve()
        around = (outside, *outside.parents) if archive_of(target) is not None else ()
        found = (self._archives.get(path) for path in around)
        half = self._pairs.get(base) if (base := _pair(outside)) is not None else None
        return next((path for path in found if path is not None), None) or half or self._above.get(outside)


def _read_from(path: Path) -> Sequence[Path]:
    """The files that an image is read from, where it exists and can be."""
    try:
        return [file for file in files_of(path) if file.exists()]
    except GeomedsrError:
        return [path] if path.exists() else []


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _pair(path: Path) -> Path | None:
    """What the two halves of a `.hdr` and `.img` image have in common, or None."""
    suffix = suffix_of(path) or ""
    return path.with_name(path.name[: -len(suffix)]) if suffix in _PAIRED else None


def check_conversion(target: Path, before: ImageSpec) -> None:
    """Whether a format can hold an image at all.

    Raises:
        OutputError: it has not the axes for it, or no place for its CRS.
    """
    suffix, grid = suffix_of(target), before.grid
    if is_url(target) and suffix != ".zarr":
        raise OutputError(f"{target} is a URL, and only zarr is written to one; choose a name that ends in .zarr.")
    if suffix in (".tif", ".tiff") and grid.ndim != 2:
        raise OutputError(f"{target} would be a GeoTIFF, which has 2 axes; the image has {grid.ndim}. Choose .zarr.")
    if suffix in (".nii", ".nii.gz", *_PAIRED) and grid.crs is not None:
        raise OutputError(f"{target} would be NIfTI, which has no place for a raster's CRS. Choose .tif or .zarr.")


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder and those above it that are missing; gives those it made, deepest first.

    Raises:
        WriteFailedError: the disk is full, or refuses.
    """
    if is_url(folder):
        return []
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def check_space(target: Path, nbytes: int) -> str | None:
    """A warning where the disk may be too small for `nbytes` before compression, or None.

    Raises:
        OutputError: it is certainly too small, because the format does not compress.
    """
    if is_url(target):
        return None
    existing = next(path for path in target.resolve().parents if path.exists())
    free = shutil.disk_usage(existing).free
    numbers = f"{target} takes {size(nbytes)} before compression, and the disk has {size(free)} free"
    if nbytes > free and suffix_of(target) in (".nii", ".hdr", ".img"):
        raise OutputError(f"{numbers}; choose another disk, or .nii.gz.")
    return f"{numbers}." if nbytes > 2 * free else None
