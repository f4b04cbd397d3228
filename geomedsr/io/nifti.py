"""NIfTI-1 and NIfTI-2, in one file or a pair, plain or gzip-compressed. ANALYZE 7.5 is refused.

Axes keep the file's order (i, j, k); a 2D image is one voxel thick in k, and is written as 2D again. Frames of a 4D
image (and the components of a vector) are channels, as are the colours of RGB24 and RGBA32. Voxels in memory are
float32: integers beyond 2 ** 24 are rounded to its precision.

What other formats tell and NIfTI has no place for does not come back: a raster's CRS (as much of it as fits is left in
`descrip` for people to read, and the coordinates stay those of the CRS), the names of channels, and nodata: an
invalid voxel stays NaN in a real dtype and becomes what stands for the physical 0 in an integer.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import InputError, OutputError, WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io import _gzip
from geomedsr.io._coding import with_one_scaling
from geomedsr.io._limits import limits
from geomedsr.io._nifti_extensions import provenance_in
from geomedsr.io._nifti_files import (
    SUFFIXES,
    header_file,
    is_header,
    is_packed,
    is_single,
    new_partner,
    read_errors,
    read_header,
    voxel_file,
)
from geomedsr.io._nifti_layout import Buffer, Layout
from geomedsr.io._nifti_target import target_header, volume_grid
from geomedsr.io._staging import Staging, write_errors
from geomedsr.io._witness import Witness

__all__ = [
    "SUFFIXES",
    "NiftiSink",
    "NiftiSource",
    "check_options",
    "create_sink",
    "files_of",
    "members",
    "open_source",
    "target_spec",
]

_MOST_PAGES = 64 << 20


def members(path: Path) -> Iterator[Path]:
    """The one image of a file; that of a pair has the name of its header."""
    with suppress(InputError):
        path = header_file(path)
    yield path


def files_of(path: Path) -> list[Path]:
    """The files of an image: one, or the two of a pair.

    Raises:
        InputError: one is missing.
    """
    return [header_file(path), voxel_file(path)]


def open_source(path: Path) -> NiftiSource:
    """The image for reading; its header is checked now, its voxels are read later.

    Raises:
        InputError: the file is missing, broken, or not what it claims to be.
    """
    return NiftiSource(path)


def target_spec(path: Path, spec: ImageSpec) -> ImageSpec:
    """What will be read back from a file of this image; of channels that are scaled differently, float32.

    Raises:
        OutputError: NIfTI has no place for such an image.
    """
    spec = with_one_scaling(spec)
    header, grid = target_header(spec, path.name, single=is_single(path)), volume_grid(spec.grid)
    return replace(
        spec,
        grid=replace(grid, crs=None, units=header.grid.units),
        channels=header.channels,
        dtype=header.dtype,
        nodata=None,
        chunks=None,
        scaling=header.scaling,
    )


def create_sink(path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> NiftiSink:
    """The image for writing. Of the options there is `level`, 0 to 9, for what is compressed.

    Raises:
        OutputError: an unknown option, or an image for which NIfTI has no place.
    """
    return NiftiSink(path, spec, options)


def check_options(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
    """Refuses options that `create_sink` would, without touching the disk.

    Raises:
        OutputError: an unknown option, or a value that cannot be.
    """
    _level(options, path)


class NiftiSource:
    """A NIfTI image that is read in boxes from a memory map.

    What is compressed is unpacked once, at the first read, and then its checksum is verified.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with read_errors(path):
            self._voxel_file = voxel_file(path)
            self.header = read_header(header_file(path))
            self._check_size()
        self._spec = ImageSpec(
            grid=self.header.grid,
            channels=self.header.channels,
            dtype=self.header.dtype,
            extra={"nifti": self.header, "warnings": self.header.doubts},
            scaling=self.header.scaling,
            has_holes=self.header.dtype.kind == "f",
            provenance=provenance_in(self.header.after, self.header.order),
        )
        self._lock = threading.Lock()
        self._pages: _Pages | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @property
    def spec(self) -> ImageSpec:
        """Everything but the voxels."""
        return self._spec

    def read(self, box: Box) -> Voxels:
        """The voxels of a box, with slope and intercept applied.

        Shape: (C, *box.shape)

        Raises:
            InputError: the compressed file turns out to be damaged, or somebody has cut the file meanwhile.
        """
        box.check_inside(self._spec.grid.shape)
        with self._lock:
            self._pages = self._pages or self._opened()
            if not self._pages.is_whole:
                raise InputError(f"{self.path} was cut short while it was read.")
            voxels = self.header.layout.decoded(self._pages.stored, box)
            self._pages.touch(box)
        return voxels

    def close(self) -> None:
        """Lets go of the map and of what was unpacked."""
        with self._lock:
            self._pages = None

    def _opened(self) -> _Pages:
        layout = self.header.layout
        if is_packed(self._voxel_file):
            return _Pages(_gzip.unpacked(self._voxel_file, layout.offset + layout.nbytes), layout)
        with read_errors(self.path), open(self._voxel_file, "rb") as handle:
            return _Pages(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), layout)

    def _check_size(self) -> None:
        layout, file = self.header.layout, self._voxel_file
        needed, found = layout.offset + layout.nbytes, file.stat().st_size
        fits = _gzip.unpacked_size_fits(file, needed) if is_packed(file) else needed <= found
        if not fits:
            counts = " x ".join(str(n) for n in (*layout.shape, *([layout.frames] if layout.frames > 1 else [])))
            raise InputError(
                f"The header of {self.path} claims {counts} voxels, {needed} bytes, and {file.name} has only {found}"
                f"{' compressed ones' if is_packed(file) else ''}; the file is cut short, or its header is wrong."
            )
        limits().check_channels(self.path, len(self.header.channels))
        limits().check_voxels(self.path, math.prod(layout.shape) * len(self.header.channels))
        if is_packed(file):
            limits().check_unpacked(file, packed=found, unpacked=needed)


class NiftiSink:
    """A NIfTI image that is written in boxes, in any order, beside its target until `commit`.

    Voxels go through a memory map into a file of full size, reserved before anything else so that a full disk shows
    at once. What is to be compressed is packed by threads of its own while later boxes still come.
    """

    def __init__(self, path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> None:
        spec = with_one_scaling(spec)
        self.header = target_header(spec, path.name, single=is_single(path))
        self.spec = replace(spec, nodata=None, chunks=None, scaling=self.header.scaling)
        self._level = _level(options or {}, path)
        self._partner = new_partner(path)
        self._staging = Staging(path)
        self._done = np.zeros(self.header.layout.shape[2], dtype=np.int64)
        self._pages: _Pages | None = None
        self._packer: _gzip.Packer | None = None
        self._witness = Witness(path)
        try:
            with write_errors(path):
                self._open()
        except BaseException:
            self.abort()
            raise

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box: (C, *box.shape).

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        box.check_inside(self.spec.grid.shape)
        if box.ndim == 2:
            box, voxels = Box((*box.start, 0), (*box.stop, 1)), voxels[..., None]
        assert self._pages is not None, "the sink is closed"
        self.header.layout.encode(voxels, self._pages.stored, box)
        if self._packer is None:
            self._witness.saw(box, _cut(self._pages.stored, box))
        self._pages.touch(box)
        self._done[box.start[2] : box.stop[2]] += box.shape[0] * box.shape[1]
        if self._packer:
            with write_errors(self._staging.target):
                self._packer.advance(self._leading_bytes())

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The file appears, complete and looked at once more, and by `verify` too before it takes its place.

        Raises:
            WriteFailedError: voxels are missing, or the disk is full.
        """
        self._staging.check_complete(int(self._done.sum()), self.spec.grid.shape)
        self._pages = None
        total = self._raw.stat().st_size
        if self._packer:
            with write_errors(self._staging.target):
                self._packer.finish(total)
                self._raw.unlink()
        checks: list[Callable[[Path], None]] = [partial(self._verify, total), *([verify] if verify else [])]
        self._staging.publish(*([self._staged(self._partner)] if self._partner else []), checks=checks)

    def abort(self) -> None:
        """Nothing appears. Harmless after `commit` and when done twice."""
        if self._packer:
            self._packer.stop()
        self._pages = None
        self._staging.discard()

    def _staged(self, path: Path) -> Path:
        return self._staging.folder / path.name

    def _open(self) -> None:
        layout, head = self.header.layout, self.header.block + self.header.after
        files = [self._staging.path, *([self._staged(self._partner)] if self._partner else [])]
        voxels = next(file for file in files if not is_header(file))
        for file in filter(is_header, files):
            file.write_bytes(_gzip.packed(head) if is_packed(file) else head)
            head = b""
        self._raw = self._staging.folder / "voxels" if is_packed(voxels) else voxels
        self._pages = _Pages(_reserved(self._raw, head, layout.offset + layout.nbytes), layout)
        if is_packed(voxels):
            self._packer = _gzip.Packer(self._raw, voxels, self._level)

    def _leading_bytes(self) -> int:
        """How many bytes from the file's start are final: the slabs of the first frame that are complete."""
        layout = self.header.layout
        incomplete = np.flatnonzero(self._done < layout.shape[0] * layout.shape[1])
        if incomplete.size:
            return layout.offset + int(incomplete[0]) * layout.slab_bytes
        return layout.offset + layout.nbytes

    def _verify(self, total: int, staged: Path) -> None:
        """Reads everything back: of what was packed, gzip's own checksum of what went in is held against it."""
        target, file = self._staging.target, voxel_file(staged)
        try:
            header, found = read_header(header_file(staged)), self._found(file)
        except (InputError, OSError) as error:
            raise WriteFailedError(f"{target} cannot be read as it was written: {error}") from error
        if (header.block, header.after, found) != (self.header.block, self.header.after, total):
            raise WriteFailedError(f"{target} did not read back as it was written; check the disk.")

    def _found(self, file: Path) -> int:
        """The bytes of voxels and what is before them, after all of them were looked at."""
        if is_packed(file):
            return _gzip.checked_size(file)
        with open(file, "rb") as handle:
            pages = _Pages(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), self.header.layout)
        self._witness.check(pages.cut)
        return file.stat().st_size


def _cut(stored: NDArray[Any], box: Box) -> NDArray[Any]:
    """The stored numbers of a box, in the order in which they lie in the file."""
    return stored[(slice(None), *box.slices)].T


class _Pages:
    """The stored numbers in a buffer; pages of a mapped file are given back before they fill the memory."""

    def __init__(self, buffer: Buffer, layout: Layout) -> None:
        self.stored = layout.stored(buffer)
        self._buffer = buffer
        self._layout = layout
        self._touched = 0

    def cut(self, box: Box) -> NDArray[Any]:
        """The stored numbers of a box, in the order in which they lie in the file."""
        self.touch(box)
        return _cut(self.stored, box)

    @property
    def is_whole(self) -> bool:
        """Whether a mapped file still has all voxels: touching a page behind its end would end the program."""
        needed = self._layout.offset + self._layout.nbytes
        return not isinstance(self._buffer, mmap.mmap) or self._buffer.size() >= needed

    def touch(self, box: Box) -> None:
        """Counts what was read or written, and lets the system have the pages back when it is much."""
        self._touched += self._layout.touched(box)
        if self._touched > _MOST_PAGES and isinstance(self._buffer, mmap.mmap):
            self._buffer.madvise(mmap.MADV_DONTNEED)
            self._touched = 0


def _reserved(path: Path, head: bytes, nbytes: int) -> mmap.mmap:
    """A map of a new file that starts with `head` and has all its blocks: a full disk shows now, not as a crash."""
    with open(path, "w+b") as handle:
        handle.write(head)
        handle.flush()
        os.posix_fallocate(handle.fileno(), 0, nbytes)
        return mmap.mmap(handle.fileno(), nbytes)


def _level(options: Mapping[str, str], path: Path) -> int:
    unknown = sorted(set(options) - {"level"})
    if unknown:
        raise OutputError(f"NIfTI has no option '{unknown[0]}'; it has level, 0 to 9.")
    if "level" in options and not is_packed(path):
        raise OutputError(f"{path.name} is not compressed and has no level; choose a name that ends in .gz.")
    level = options.get("level", str(_gzip.LEVEL))
    if level not in tuple("0123456789"):
        raise OutputError(f"The level is 0 to 9; it cannot be '{level}'.")
    return int(level)
