"""Which files make a NIfTI image: one, or a header and its voxels side by side; and what stands in the header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomedsr.errors import InputError, OutputError
from geomedsr.io import _gzip
from geomedsr.io._limits import limits
from geomedsr.io._nifti_header import SIZES, NiftiHeader

__all__ = [
    "SUFFIXES",
    "header_file",
    "is_header",
    "is_packed",
    "is_single",
    "new_partner",
    "read_errors",
    "read_header",
    "voxel_file",
]

SUFFIXES: tuple[str, ...] = (".nii.gz", ".nii", ".hdr.gz", ".img.gz", ".hdr", ".img")

_PARTNERS = {
    ".hdr": (".img", ".img.gz"),
    ".img": (".hdr", ".hdr.gz"),
    ".hdr.gz": (".img.gz", ".img"),
    ".img.gz": (".hdr.gz", ".hdr"),
}


def is_packed(path: Path) -> bool:
    """Whether a file is gzip-compressed, by its name."""
    return path.name.lower().endswith(".gz")


def is_single(path: Path) -> bool:
    """Whether a file holds header and voxels, by its name."""
    return _suffix(path).startswith(".nii")


def is_header(path: Path) -> bool:
    """Whether a file is the header of a pair, by its name."""
    return _suffix(path).startswith(".hdr")


def header_file(path: Path) -> Path:
    """The file with the header of the image that a path names.

    Raises:
        InputError: a file is missing.
    """
    _check_exists(path)
    return _partner(path) if _suffix(path).startswith(".img") else path


def voxel_file(path: Path) -> Path:
    """The file with the voxels of the image that a path names.

    Raises:
        InputError: a file is missing.
    """
    _check_exists(path)
    return _partner(path) if is_header(path) else path


def new_partner(path: Path) -> Path | None:
    """The other file of an output, or None where all goes into one.

    Raises:
        OutputError: it exists although the output itself does not: it belongs to something else.
    """
    if is_single(path):
        return None
    partner = _partners(path)[0]
    if partner.exists() and not path.exists():
        raise OutputError(f"{partner} exists, and would be written along with {path.name}; remove it first.")
    return partner


def read_header(path: Path) -> NiftiHeader:
    """The checked header in a file.

    Raises:
        InputError: there is none, or it says what cannot be.
    """
    block = _start_of(path, max(SIZES))
    order = NiftiHeader.order_of(block, path.name)
    size = int.from_bytes(block[:4], "little" if order == "<" else "big")
    bare = NiftiHeader.parse(block[:size], b"", path.name)
    if bare.is_single != is_single(path):
        told = "in the same file" if bare.is_single else "in an .img file beside it"
        raise InputError(f"{path} says that its voxels are {told}, which its name contradicts; rename it.")
    limits().check_text(path, bare.offset if bare.is_single else 0)
    end = bare.offset if bare.is_single else limits().text
    after = _start_of(path, end)[size:]
    return NiftiHeader.parse(block[:size], after, path.name)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turns the system's refusals while reading into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _start_of(path: Path, count: int) -> bytes:
    if is_packed(path):
        return _gzip.start_of(path, count)
    with open(path, "rb") as handle:
        return handle.read(count)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def _partners(path: Path) -> list[Path]:
    suffix = _suffix(path)
    stem = path.name[: len(path.name) - len(suffix)]
    return [path.with_name(stem + other) for other in _PARTNERS[suffix]]


def _partner(path: Path) -> Path:
    candidates = _partners(path)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise InputError(f"{path} needs {candidates[0].name} beside it, and there is none.")
    return found


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
