"""Whether a JPEG 2000 file is whole, and how large: decoders fill what is missing with zeros and say nothing."""

from __future__ import annotations

import struct
from pathlib import Path

from geomedsr.errors import InputError
from geomedsr.io._limits import limits

__all__ = ["check_jp2"]

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_SIZ = struct.Struct(">8IH")
"""What SIZ tells behind its length and its capabilities: ends, starts, tile's size and start, channels."""
_DECODED = 4
"""Bytes of a voxel while it is decoded."""


def check_jp2(path: Path) -> None:
    """Walks through the boxes of a JP2 file, or looks at the ends of a bare codestream.

    Reference: ISO/IEC 15444-1, annexes A and I.

    Raises:
        InputError: it is no JPEG 2000, it is cut short, or it claims too much.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == _CODESTREAM:
            start, stop = 0, size
        elif head == _SIGNATURE:
            start, stop = _codestream_of(path, size)
        else:
            raise InputError(f"{path} is not a JPEG 2000 file: it begins with {head[:4]!r}.")
        file.seek(start)
        _check_size(path, file.read(_SIZ.size + 8), size)
        file.seek(max(stop - 2, start))
        if file.read(2) != _END:
            raise InputError(f"{path} is cut short: its voxels do not end before byte {stop} of {size}.")


def _check_size(path: Path, head: bytes, packed: int) -> None:
    """Holds what a codestream claims against the budgets; its first two markers are SOC and SIZ."""
    if len(head) < 8 + _SIZ.size or head[:4] != _CODESTREAM:
        raise InputError(f"{path} is damaged: its codestream does not say how large it is.")
    right, bottom, left, top, columns, rows, _, _, channels = _SIZ.unpack_from(head, 8)
    width, height = right - left, bottom - top
    if min(width, height, rows, columns, channels) < 1:
        raise InputError(
            f"{path} holds no voxels: {channels} bands of {height} x {width} in tiles of {rows} x {columns}."
        )
    limits().check_channels(path, channels)
    limits().check_voxels(path, width * height * channels)
    limits().check_block(path, min(columns, width) * min(rows, height) * channels * _DECODED)
    limits().check_unpacked(path, packed=packed, unpacked=width * height * channels)


def _codestream_of(path: Path, size: int) -> tuple[int, int]:
    """Where the first codestream of a JP2 file starts and stops."""
    position = 0
    with open(path, "rb") as file:
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            header = 8
            if length == 1:
                length, header = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0], 16
            stop = size if length == 0 else position + length
            if stop > size or stop < position + header:
                break
            if kind == b"jp2c":
                return position + header, stop
            position = stop
    raise InputError(f"{path} is cut short: its voxels should reach beyond its {size} bytes.")
