"""The codecs of zarr: the compressors to write with, and a blosc that does not read past a truncated chunk.

Blosc copies as many bytes as a chunk's header claims, whether the chunk has them or not, so a file cut short gives
voxels out of whatever lies behind it in memory. Here the header is held against the chunk first.
"""

from __future__ import annotations

import lzma
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numcodecs
import numcodecs.compat
import numpy as np
import zarr
import zarr.abc.codec
import zarr.codecs
import zarr.registry
from numpy.typing import NDArray

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io._zarr_node import Node
from geomedsr.io._zarr_objects import check_objects
from geomedsr.io._zarr_place import Place

__all__ = ["UNREADABLE", "compressor", "guarded", "opened", "small_array"]

_MOST_BYTES = 64 << 20
"""Of an array that is read at once: coordinates, headers."""

UNREADABLE = (OSError, ValueError, RuntimeError, TypeError, KeyError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a broken array may raise."""

_HEADER = struct.Struct("<4B3I")
_COPIED = 0x2
"""The flag of a chunk that blosc could not compress and holds as it is."""


class _GuardedBlosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc that refuses a chunk shorter than its header says."""

    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401 - buffers of any kind, as numcodecs has it
        """The bytes of a chunk.

        Raises:
            ValueError: the chunk is cut short, or its header is wrong.
        """
        chunk = numcodecs.compat.ensure_contiguous_ndarray(buf).view("u1")
        if chunk.size < _HEADER.size:
            raise ValueError(f"a blosc chunk of {chunk.size} bytes has no header")
        _, _, flags, _, unpacked, _, packed = _HEADER.unpack(chunk[: _HEADER.size].tobytes())
        if packed > chunk.size or (flags & _COPIED and unpacked + _HEADER.size > packed):
            raise ValueError(f"a blosc chunk of {packed} bytes, {unpacked} unpacked, has only {chunk.size}")
        return super().decode(buf, out)


class _GuardedBloscCodec(zarr.codecs.BloscCodec):
    """The same for format 3."""

    @cached_property
    def _blosc_codec(self) -> _GuardedBlosc:
        config = super()._blosc_codec.get_config()
        known = {key: value for key, value in config.items() if key != "id"}
        return _GuardedBlosc(**known, typesize=self.typesize)  # numcodecs does not tell it


_NAME = f"{_GuardedBloscCodec.__module__}.{_GuardedBloscCodec.__qualname__}"
zarr.registry.register_codec("blosc", _GuardedBloscCodec, qualname=_NAME)
numcodecs.register_codec(_GuardedBlosc, "blosc")


@contextmanager
def guarded() -> Iterator[None]:
    """Arrays of format 3 that are opened within decode with the guarded blosc; those of format 2 do everywhere."""
    with warnings.catch_warnings(), zarr.config.set({"codecs.blosc": _NAME}):
        warnings.simplefilter("ignore")  # about codecs that no specification has yet
        yield


def opened(node: Node) -> zarr.Array[Any]:
    """The array of a node for reading."""
    place = Place(node.path)
    store = place.remote_store(read_only=True) if place.is_remote else str(node.path)
    with guarded():
        return zarr.open_array(store, mode="r", zarr_format=node.zarr_format)  # type: ignore[arg-type]


def small_array(node: Node) -> NDArray[Any]:
    """All voxels of an array that is small: coordinates, or a header.

    Raises:
        InputError: it is not small, or broken.
    """
    if node.refusal is not None or node.dtype is None or math.prod(node.shape) * node.dtype.itemsize > _MOST_BYTES:
        raise InputError(f"{node.path} cannot be read: {node.refusal or f'it has the shape {node.shape}'}.")
    try:
        check_objects(node, Box.whole(node.shape))
        return np.asarray(opened(node)[...])
    except UNREADABLE as error:
        raise InputError(f"{node.path} is broken: {error or type(error).__name__}.") from error


def compressor(name: str, zarr_format: int) -> numcodecs.abc.Codec | zarr.abc.codec.BytesBytesCodec | None:
    """The compressor of a name: blosc (lz4 on shuffled bits, the fastest), zstd, gzip or none."""
    if name == "none":
        return None
    if zarr_format == 2:
        return {
            "blosc": numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
            "zstd": numcodecs.Zstd(level=3),
            "gzip": numcodecs.GZip(level=5),
        }[name]
    known: dict[str, zarr.abc.codec.BytesBytesCodec] = {
        "blosc": zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        "zstd": zarr.codecs.ZstdCodec(level=3),
        "gzip": zarr.codecs.GzipCodec(level=5),
    }
    return known[name]
