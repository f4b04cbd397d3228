"""Decoders for zarr that give no more bytes than the chunk holds that is asked for.

A few kilobytes unpack into gigabytes, or claim to; the libraries unpack them whole before anybody looks at the size.
And blosc copies as many bytes as a chunk's header claims, whether the chunk has them or not, so that a file cut short
gives voxels out of whatever lies behind it in memory. Here every size is known before, and held against.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numcodecs
import numcodecs.compat
import numpy as np
import zarr
import zarr.codecs
import zarr.registry

from geomedsr.io._limits import limits

__all__ = ["NAMES", "unpacking"]

_BLOSC = struct.Struct("<4B3I")
_COPIED = 0x2
"""The flag of a chunk that blosc could not compress and holds as it is."""
_GZIP = 31
"""What zlib calls the largest window, with gzip's header and checksum."""
_ZSTD, _SKIPPED = 0xFD2FB528, 0x184D2A50
_RLE = 1
_MOST_STREAMS = 256

_most: ContextVar[int | None] = ContextVar("the most bytes that a chunk may unpack to", default=None)


@contextmanager
def unpacking(most: int) -> Iterator[None]:
    """While it lasts, what this thread asks zarr for unpacks to at most so many bytes a chunk."""
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)


def _allowed() -> int:
    return limits().block if (most := _most.get()) is None else most


def _check(claimed: int) -> None:
    if claimed > (most := _allowed()):
        raise ValueError(f"a chunk of {most} bytes claims to unpack to {claimed}")


def _unpacked(stream: Callable[[], Any], buf: Any, out: Any) -> Any:  # noqa: ANN401 - buffers of any kind
    """All streams of a buffer, one after the other, and not a byte more than is allowed."""
    left, most, parts = numcodecs.compat.ensure_bytes(buf), _allowed(), list[bytes]()
    while not parts or left.strip(b"\0"):
        if len(parts) == _MOST_STREAMS:  # each costs a copy of all that follows
            raise ValueError(f"it has more than {_MOST_STREAMS} compressed streams behind each other")
        decoder, room = stream(), most - sum(map(len, parts))
        try:
            part = decoder.decompress(left, room + 1)
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
            if parts:
                break  # what follows a whole stream is padding
            raise
        if len(part) > room:
            raise ValueError(f"it unpacks to more than the {most} bytes of a chunk")
        if not decoder.eof:
            raise EOFError("a compressed chunk is cut short")
        parts.append(part)
        left = decoder.unused_data
    return numcodecs.compat.ndarray_copy(b"".join(parts), out)


class _Zlib(numcodecs.Zlib):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401 - as numcodecs has it
        return _unpacked(zlib.decompressobj, buf, out)


class _GZip(numcodecs.GZip):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        return _unpacked(lambda: zlib.decompressobj(_GZIP), buf, out)


class _BZ2(numcodecs.BZ2):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        return _unpacked(bz2.BZ2Decompressor, buf, out)


class _LZMA(numcodecs.LZMA):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        most = None if self.format == lzma.FORMAT_RAW else limits().block
        return _unpacked(lambda: lzma.LZMADecompressor(self.format, most, self.filters), buf, out)


class _LZ4(numcodecs.LZ4):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        """The bytes of a chunk, whose number stands in its first four."""
        data = numcodecs.compat.ensure_bytes(buf)
        if len(data) < 4:
            raise ValueError(f"an lz4 chunk of {len(data)} bytes has no header")
        _check(int.from_bytes(data[:4], "little"))
        return super().decode(data, out)


class _Zstd(numcodecs.Zstd):  # type: ignore[misc]
    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        """The bytes of a chunk; of one that does not say how many they are, just as many as there should be."""
        data = numcodecs.compat.ensure_bytes(buf)
        size = _zstd_size(data)
        _check(size or 0)
        return super().decode(data, np.zeros(_allowed() if size is None else size, np.uint8) if out is None else out)


class _Blosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc that refuses a chunk shorter than its header says."""

    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        """The bytes of a chunk.

        Raises:
            ValueError: the chunk is cut short, or its header is wrong.
        """
        chunk = numcodecs.compat.ensure_contiguous_ndarray(buf).view("u1")
        if chunk.size < _BLOSC.size:
            raise ValueError(f"a blosc chunk of {chunk.size} bytes has no header")
        _, _, flags, _, unpacked, _, packed = _BLOSC.unpack(chunk[: _BLOSC.size].tobytes())
        if packed > chunk.size or (flags & _COPIED and unpacked + _BLOSC.size > packed):
            raise ValueError(f"a blosc chunk of {packed} bytes, {unpacked} unpacked, has only {chunk.size}")
        _check(unpacked)
        return super().decode(buf, out)


class _BloscCodec(zarr.codecs.BloscCodec):
    """The same for format 3."""

    @cached_property
    def _blosc_codec(self) -> _Blosc:
        config = super()._blosc_codec.get_config()
        known = {key: value for key, value in config.items() if key != "id"}
        return _Blosc(**known, typesize=self.typesize)  # numcodecs does not tell it


class _GzipCodec(zarr.codecs.GzipCodec):
    @cached_property
    def _gzip_codec(self) -> _GZip:
        return _GZip(self.level)


class _ZstdCodec(zarr.codecs.ZstdCodec):
    @cached_property
    def _zstd_codec(self) -> _Zstd:
        return _Zstd(level=self.level, checksum=self.checksum)


_CODECS = {"blosc": _BloscCodec, "gzip": _GzipCodec, "zstd": _ZstdCodec}
NAMES = {f"codecs.{key}": f"{codec.__module__}.{codec.__qualname__}" for key, codec in _CODECS.items()}
"""What zarr's configuration must say so that arrays of format 3 decode with these."""

for _key, _codec in _CODECS.items():
    zarr.registry.register_codec(_key, _codec, qualname=NAMES[f"codecs.{_key}"])
for _one in (_Blosc, _BZ2, _GZip, _LZ4, _LZMA, _Zlib, _Zstd):
    numcodecs.register_codec(_one)


def _zstd_size(data: bytes) -> int | None:
    """The bytes that all frames together say they unpack to; None where one does not say.

    Reference: RFC 8878, 3.1
    """
    whole, at = 0, 0
    while at + 5 <= len(data):
        magic, length = struct.unpack_from("<2I", data.ljust(at + 8, b"\0"), at)
        if magic & ~0xF == _SKIPPED:
            at += 8 + length
            continue
        if magic != _ZSTD:
            break
        size, at = _zstd_frame(data, at + 4)
        if size is None:
            return None
        whole += size
    return whole


def _zstd_frame(data: bytes, at: int) -> tuple[int | None, int]:
    """What a frame says it unpacks to, and where it ends; it begins behind its magic number."""
    flags = data[at]
    kind, is_single = flags >> 6, bool(flags & 0x20)
    width = 1 << kind if kind or is_single else 0
    at += 1 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0) if width else None
    at += width
    while at + 3 <= len(data):
        block = int.from_bytes(data[at : at + 3], "little")
        at += 3 + (1 if (block >> 1) & 3 == _RLE else block >> 3)
        if block & 1:
            break
    return size, at + 4 * bool(flags & 4)
