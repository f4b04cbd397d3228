"""The codecs of zarr: arrays opened so that they decode with care, and the compressors to write with."""

from __future__ import annotations

import lzma
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numcodecs
import numpy as np
import zarr
import zarr.abc.codec
import zarr.codecs
from numpy.typing import NDArray

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io import _zarr_decoders
from geomedsr.io._zarr_node import Node
from geomedsr.io._zarr_objects import check_objects
from geomedsr.io._zarr_place import Place

__all__ = ["UNREADABLE", "compressor", "guarded", "opened", "small_array"]

_MOST_BYTES = 64 << 20
"""Of an array that is read at once: coordinates, headers."""

UNREADABLE = (
    OSError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a broken array may raise."""


@contextmanager
def guarded() -> Iterator[None]:
    """Arrays of format 3 that are opened within decode with the guarded codecs; those of format 2 do everywhere."""
    with warnings.catch_warnings(), zarr.config.set(_zarr_decoders.NAMES):
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
        with _zarr_decoders.unpacking(node.unpacked):
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
