"""The first directory of a TIFF file: what it claims, checked against the bytes that are there."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import InputError

__all__ = ["Directory", "read_directory"]

# Tag numbers of TIFF 6.0 (Adobe, 1992).
_COLUMNS, _ROWS, _BITS, _COMPRESSION, _SAMPLES, _PLANAR = 256, 257, 258, 259, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_COUNTS = 273, 278, 279
_TILE_COLUMNS, _TILE_ROWS, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325

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
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]

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
        claimed = self.rows * self.columns * self.samples * self.bits // 8
        if self.compression == 1 and self.offsets.all() and self.counts.sum(dtype=np.float64) < claimed:
            raise InputError(f"{self.path} is damaged: it claims {claimed} bytes of voxels and lists fewer.")

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
        entries = _entries(path, file, layout, start, size)
    return _directory(path, size, entries)


def _header(path: Path, file: BinaryIO) -> tuple[_Layout, int]:
    head = file.read(16).ljust(16, b"\0")
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order or '<'}H", head[2:4])[0]
    if order is None or version not in (42, 43):
        raise InputError(f"{path} is not a TIFF file: it begins with {head[:4]!r}.")
    layout = _Layout(order, big=version == 43)
    return layout, struct.unpack_from(layout.offset, head, 8 if layout.big else 4)[0]


def _entries(path: Path, file: BinaryIO, layout: _Layout, start: int, size: int) -> dict[int, NDArray[np.uint64]]:
    """The values of each whole-number tag; every other tag is only checked to lie inside the file."""
    cut = InputError(f"{path} is cut short: its directory reaches beyond its {size} bytes.")
    width, step = struct.calcsize(layout.count), struct.calcsize(layout.entry)
    file.seek(min(start, size))
    head = file.read(width)
    if len(head) < width:
        raise cut
    count = struct.unpack(layout.count, head)[0]
    if start + width + count * step > size:
        raise cut
    found = {}
    for tag, kind, number, value in struct.iter_unpack(layout.entry, file.read(count * step)):
        length = _SIZES.get(kind, 1) * number
        if length > len(value):
            position = struct.unpack(layout.offset, value)[0]
            if position + length > size:
                raise cut
            file.seek(position)
            value = file.read(length) if kind in _DTYPES else b""
        if kind in _DTYPES and tag not in found:
            values = np.frombuffer(value[:length], dtype=layout.order + _DTYPES[kind])
            found[tag] = values.astype(np.uint64)
    return found


def _directory(path: Path, size: int, entries: dict[int, NDArray[np.uint64]]) -> Directory:
    def number(tag: int, default: int) -> int:
        values = entries.get(tag)
        return int(values[0]) if values is not None and len(values) else default

    none = np.zeros(0, np.uint64)
    rows, columns, samples = number(_ROWS, 0), number(_COLUMNS, 0), number(_SAMPLES, 1)
    tiled = _TILE_OFFSETS in entries
    block_rows = number(_TILE_ROWS, rows) if tiled else min(number(_STRIP_ROWS, rows), rows)
    block_columns = number(_TILE_COLUMNS, columns) if tiled else columns
    across = math.ceil(rows / max(block_rows, 1)) * math.ceil(columns / max(block_columns, 1))
    offsets = entries.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, none)
    counts = entries.get(_TILE_COUNTS if tiled else _STRIP_COUNTS, none)
    if len(counts) != len(offsets):
        # Old writers leave the counts out of an uncompressed file; its size is then not checked, the offsets are.
        counts = np.zeros(len(offsets), np.uint64)
    return Directory(
        path,
        size,
        rows,
        columns,
        samples,
        bits=number(_BITS, 1) if counts.any() else 0,
        compression=number(_COMPRESSION, 1),
        blocks=across * (samples if number(_PLANAR, 1) == 2 else 1),
        offsets=offsets,
        counts=counts,
    )
