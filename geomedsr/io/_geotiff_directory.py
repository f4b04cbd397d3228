"""The first directory of a TIFF file: what it claims, checked against the bytes that are there, and the budgets."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import InputError
from geomedsr.io._geotiff_geokeys import GeoKeys
from geomedsr.io._limits import limits

__all__ = ["Directory", "read_directory"]

# Tag numbers of TIFF 6.0 (Adobe, 1992).
_COLUMNS, _ROWS, _BITS, _COMPRESSION, _SAMPLES, _PLANAR = 256, 257, 258, 259, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_COUNTS = 273, 278, 279
_TILE_COLUMNS, _TILE_ROWS, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
# Those of GeoTIFF, and GDAL's own.
_SCALE, _TRANSFORM, _GEO_KEYS, _GEO_DOUBLES, _GEO_TEXT, _NODATA = 33550, 34264, 34735, 34736, 34737, 42113
_WANTED = {_COLUMNS, _ROWS, _BITS, _COMPRESSION, _SAMPLES, _PLANAR, _STRIP_OFFSETS, _STRIP_ROWS, _STRIP_COUNTS} | {
    *(_TILE_COLUMNS, _TILE_ROWS, _TILE_OFFSETS, _TILE_COUNTS, _GEO_KEYS)
}
_MOST_IMAGES = 1000
_PLAIN = 1
"""The compression of what is not compressed."""

_DTYPES = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the two kinds of TIFF write a directory: classic (4-byte offsets) and BigTIFF (8-byte offsets)."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.big else "HHI4s")


@dataclass(frozen=True, slots=True)
class Directory:
    """What a TIFF's first image claims.

    `offsets` and `counts` say where its blocks (tiles or strips) lie; an offset of 0 is a block that was never
    written. `blocks` is how many there must be.
    """

    path: Path
    size: int
    rows: int
    columns: int
    samples: int
    bits: int
    compression: int
    blocks: int
    block_bytes: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    is_placed: bool
    nodata: str | None
    keys: GeoKeys | None

    def check(self) -> None:
        """Refuses a file whose blocks are not all in it.

        Raises:
            InputError: with the numbers claimed and found.
        """
        if min(self.rows, self.columns, self.samples) < 1:
            raise InputError(f"{self.path} holds no voxels: {self.samples} bands of {self.rows} x {self.columns}.")
        if len(self.offsets) < self.blocks:
            raise InputError(
                f"{self.path} is damaged: {self.samples} bands of {self.rows} x {self.columns} voxels need "
                f"{self.blocks} blocks, and it lists {len(self.offsets)}."
            )
        ends = self.offsets.astype(np.float64) + self.counts
        if len(ends) and ends.max() > self.size:
            raise InputError(
                f"{self.path} is cut short: its voxels reach to byte {ends.max():.0f}, and it ends at {self.size}."
            )
        if self._lists_less:
            raise InputError(f"{self.path} is damaged: it claims {self.claimed} bytes of voxels and lists fewer.")
        if self.keys is not None and self.keys.is_cut:
            raise InputError(f"{self.path} is damaged: its GeoKeys are cut, so that nobody can tell where it lies.")
        self._check_budgets()

    @property
    def claimed(self) -> int:
        """The bytes of all voxels, unpacked."""
        return self.rows * self.columns * self.samples * self.bits // 8

    @property
    def _lists_less(self) -> bool:
        """Whether what is not compressed is shorter than its voxels (where nothing tells its length, nobody knows)."""
        known = self.compression == _PLAIN and self.offsets.all() and self.counts.any()
        return bool(known and self.counts.sum(dtype=np.float64) < self.claimed)

    def _check_budgets(self) -> None:
        limits().check_channels(self.path, self.samples)
        limits().check_voxels(self.path, self.rows * self.columns * self.samples)
        limits().check_block(self.path, self.block_bytes)
        limits().check_unpacked(self.path, packed=self.size, unpacked=self.claimed)

    @property
    def is_complete(self) -> bool:
        """Whether each block has been written and lies inside the file."""
        whole = len(self.offsets) >= self.blocks and bool(self.offsets.all()) and bool(self.counts.all())
        return whole and float((self.offsets.astype(np.float64) + self.counts).max()) <= self.size


def read_directory(path: Path) -> Directory:
    """The first directory of a TIFF or BigTIFF file.

    Raises:
        InputError: it is no TIFF, or its directory is cut.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        layout, start = _header(path, file)
        _check_chain(path, file, layout, start, size)
        return _directory(path, size, _entries(path, file, layout, start, size))


def _header(path: Path, file: BinaryIO) -> tuple[_Layout, int]:
    head = file.read(16).ljust(16, b"\0")
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order or '<'}H", head[2:4])[0]
    if order is None or version not in (42, 43):
        raise InputError(f"{path} is not a TIFF file: it begins with {head[:4]!r}.")
    layout = _Layout(order, big=version == 43)
    return layout, struct.unpack_from(layout.offset, head, 8 if layout.big else 4)[0]


def _check_chain(path: Path, file: BinaryIO, layout: _Layout, start: int, size: int) -> None:
    """Refuses directories that follow each other without an end: GDAL looks through them all."""
    seen = {start}
    while (start := _next(file, layout, start, size)) not in (0, *seen):
        seen.add(start)
        if len(seen) > _MOST_IMAGES:
            raise InputError(f"{path} holds more than {_MOST_IMAGES} images; write each into its own file.")
    if start:
        raise InputError(f"{path} is damaged: its list of images leads back to its beginning.")


def _next(file: BinaryIO, layout: _Layout, start: int, size: int) -> int:
    """Where the directory after one starts; 0 where there is none, or what leads there is cut."""
    width, step = struct.calcsize(layout.count), struct.calcsize(layout.entry)
    file.seek(min(start, size))
    head = file.read(width).ljust(width, b"\0")
    file.seek(min(start + width + struct.unpack(layout.count, head)[0] * step, size))
    tail = file.read(struct.calcsize(layout.offset)).ljust(8, b"\0")
    following = int(struct.unpack_from(layout.offset, tail)[0])
    return following if following < size else 0


@dataclass(slots=True)
class _Entries:
    """The values of the whole-number tags that are wanted, how long each tag is, and the text of nodata."""

    values: dict[int, NDArray[np.uint64]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    nodata: str | None = None

    def number(self, tag: int, default: int) -> int:
        values = self.values.get(tag)
        return int(values[0]) if values is not None and len(values) else default

    @property
    def keys(self) -> GeoKeys | None:
        if _GEO_KEYS not in self.lengths:
            return None
        none = np.zeros(0, np.uint64)
        return GeoKeys(
            self.values.get(_GEO_KEYS, none), self.lengths.get(_GEO_DOUBLES, 0), self.lengths.get(_GEO_TEXT, 0)
        )


def _entries(path: Path, file: BinaryIO, layout: _Layout, start: int, size: int) -> _Entries:
    """What the tags say that are wanted; every other tag is only checked to lie inside the file."""
    cut = InputError(f"{path} is cut short: its directory reaches beyond its {size} bytes.")
    width, step = struct.calcsize(layout.count), struct.calcsize(layout.entry)
    file.seek(min(start, size))
    head = file.read(width)
    if len(head) < width:
        raise cut
    count = struct.unpack(layout.count, head)[0]
    if start + width + count * step > size:
        raise cut
    found = _Entries()
    for tag, kind, number, value in struct.iter_unpack(layout.entry, file.read(count * step)):
        length = _SIZES.get(kind, 1) * number
        if tag in found.lengths:
            continue
        if tag not in _WANTED:
            limits().check_text(path, length)
        found.lengths[tag] = number
        is_wanted = tag == _NODATA or (kind in _DTYPES and tag in _WANTED)
        if length > len(value):
            position = struct.unpack(layout.offset, value)[0]
            if position + length > size:
                raise cut
            file.seek(position)
            value = file.read(length) if is_wanted else b""
        if tag == _NODATA:
            found.nodata = value[:length].split(b"\0")[0].decode("latin-1").strip()
        elif is_wanted:
            found.values[tag] = np.frombuffer(value[:length], layout.order + _DTYPES[kind]).astype(np.uint64)
    return found


def _directory(path: Path, size: int, entries: _Entries) -> Directory:
    number = entries.number
    none = np.zeros(0, np.uint64)
    rows, columns, samples = number(_ROWS, 0), number(_COLUMNS, 0), number(_SAMPLES, 1)
    tiled = _TILE_OFFSETS in entries.values
    block_rows = number(_TILE_ROWS, rows) if tiled else min(number(_STRIP_ROWS, rows), rows)
    block_columns = number(_TILE_COLUMNS, columns) if tiled else columns
    across = math.ceil(rows / max(block_rows, 1)) * math.ceil(columns / max(block_columns, 1))
    offsets = entries.values.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, none)
    counts = entries.values.get(_TILE_COUNTS if tiled else _STRIP_COUNTS, none)
    if len(counts) != len(offsets):
        # Old writers leave the counts out of an uncompressed file; its size is then not checked, the offsets are.
        counts = np.zeros(len(offsets), np.uint64)
    bits, compression, apart = number(_BITS, 1), number(_COMPRESSION, _PLAIN), number(_PLANAR, 1) == 2
    # Strips that are not compressed are read in parts.
    is_whole = tiled or compression != _PLAIN
    return Directory(
        path,
        size,
        rows,
        columns,
        samples,
        bits,
        compression,
        blocks=across * (samples if apart else 1),
        block_bytes=block_rows * block_columns * (1 if apart else samples) * bits // 8 if is_whole else 0,
        offsets=offsets,
        counts=counts,
        is_placed=bool({_SCALE, _TRANSFORM} & entries.lengths.keys()),
        nodata=entries.nodata,
        keys=entries.keys,
    )
