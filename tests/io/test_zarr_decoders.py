"""Chunks that unpack to more than they hold, or claim to: refused, whatever they were packed with, in little memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io._zarr_decoders import _zstd_size, unpacking
from geomedsr.io.zarr_archive import open_source

MANY = 32 << 20
ZEROS = bytes(MANY)
ZSTD = b"\x28\xb5\x2f\xfd"

BOMBS: dict[str, tuple[dict[str, Any], bytes]] = {
    "gzip": ({"id": "gzip", "level": 5}, gzip.compress(ZEROS)),
    "gzip, many members": ({"id": "gzip", "level": 5}, gzip.compress(ZEROS[: 1 << 20]) * 32),
    "zlib": ({"id": "zlib", "level": 5}, zlib.compress(ZEROS)),
    "bz2": ({"id": "bz2", "level": 5}, bz2.compress(ZEROS)),
    "lzma": ({"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None}, lzma.compress(ZEROS, preset=1)),
    "lz4": ({"id": "lz4", "acceleration": 1}, bytes(numcodecs.LZ4().encode(ZEROS))),
    "lz4 that claims": ({"id": "lz4", "acceleration": 1}, struct.pack("<i", 2**31 - 1) + bytes(9)),
    "zstd": ({"id": "zstd", "level": 1}, bytes(numcodecs.Zstd().encode(ZEROS))),
    "zstd that claims": ({"id": "zstd", "level": 1}, ZSTD + b"\xe0" + struct.pack("<Q", 1 << 45) + b"\x01\0\0"),
    "zstd of frames": ({"id": "zstd", "level": 1}, bytes(numcodecs.Zstd().encode(bytes(16))) * 4096),
    "zstd that does not say": (
        {"id": "zstd", "level": 1},
        ZSTD + b"\0\x58" + (struct.pack("<I", ((1 << 17) << 3) | 2)[:3] + b"\0") * 250 + b"\x0b\0\0\0",
    ),
    "blosc": (
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0, "blocksize": 0},
        bytes(numcodecs.Blosc(shuffle=0).encode(ZEROS)),
    ),
}
NATIVE = {
    "gzip": {"name": "gzip", "configuration": {"level": 5}},
    "zstd": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "blosc": {
        "name": "blosc",
        "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0, "typesize": 1},
    },
}


def store(path: Path, packed: bytes, codec: dict[str, Any], zarr_format: int) -> Path:
    """An array of one chunk of 16 bytes whose object holds other bytes."""
    options: dict[str, Any] = {"shape": (4, 4), "dtype": "uint8", "chunks": (4, 4), "compressors": None}
    zarr.create_array(str(path), **options, zarr_format=zarr_format)[...] = 7
    name = {2: ".zarray", 3: "zarr.json"}[zarr_format]
    data = json.loads((path / name).read_text())
    if zarr_format == 2:
        data["compressor"] = codec
    else:
        data["codecs"].append(codec)
    (path / name).write_text(json.dumps(data))
    (path / {2: "0.0", 3: "c/0/0"}[zarr_format]).write_bytes(packed)
    return path


def in_format_3(codec: dict[str, Any]) -> list[dict[str, Any]]:
    """The codec under its own name, where it has one, and under that which numcodecs gives it."""
    configuration = {key: value for key, value in codec.items() if key != "id"}
    own = [NATIVE[codec["id"]]] if codec["id"] in NATIVE else []
    return [*own, {"name": f"numcodecs.{codec['id']}", "configuration": configuration}]


def check_refused(path: Path) -> None:
    source = open_source(path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"is broken in \(0, 0\) to \(4, 4\): "):
            source.read(Box.whole((4, 4)))
        assert tracemalloc.get_traced_memory()[1] < MANY / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    codec, packed = BOMBS[name]
    check_refused(store(tmp_path / "2.zarr", packed, codec, 2))
    for number, one in enumerate(in_format_3(codec)):
        check_refused(store(tmp_path / f"3-{number}.zarr", packed, one, 3))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
    "zstd": lambda data: bytes(numcodecs.Zstd().encode(data)),
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data)),
}


@pytest.mark.parametrize("name", PACKERS)
def test_what_fits_is_unpacked(name: str) -> None:
    data, codec = np.random.default_rng(0).bytes(1000), numcodecs.get_codec({"id": name})
    packed = PACKERS[name](data)
    with unpacking(1000):
        assert bytes(codec.decode(packed)) == data
        out = np.zeros(1000, np.uint8)
        assert codec.decode(packed, out) is not None
        assert out.tobytes() == data
    with unpacking(999), pytest.raises(ValueError, match=r"a chunk of 999|the 999 bytes"):
        codec.decode(packed)


@pytest.mark.parametrize("name", ["gzip", "bz2", "lzma"])
def test_streams_behind_each_other_are_one_and_padding_is_none(name: str) -> None:
    codec, packer = numcodecs.get_codec({"id": name}), PACKERS[name]
    with unpacking(100):
        assert bytes(codec.decode(packer(b"one, ") + packer(b"two"))) == b"one, two"
        assert bytes(codec.decode(packer(b"one") + bytes(4))) == b"one"
        with pytest.raises((EOFError, ValueError, lzma.LZMAError)):
            codec.decode(packer(bytes(range(90)))[:-9])


def test_zstd_that_does_not_say_its_size_must_have_the_chunk_s() -> None:
    packed = ZSTD + b"\0\x58" + struct.pack("<I", (10 << 3) | 3)[:3] + b"\x07"
    with unpacking(10):
        assert bytes(numcodecs.get_codec({"id": "zstd"}).decode(packed)) == bytes([7]) * 10
    with unpacking(12), pytest.raises(RuntimeError, match="expected to decompress 12"):
        numcodecs.get_codec({"id": "zstd"}).decode(packed)


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.binary(max_size=400).map(lambda data: data * 9), min_size=1, max_size=4), level=st.integers(1, 9)
)
def test_the_size_of_zstd_frames_is_that_of_all_of_them(parts: list[bytes], level: int) -> None:
    packed = b"".join(bytes(numcodecs.Zstd(level, checksum=level % 2 == 0).encode(part)) for part in parts)
    assert _zstd_size(packed) == sum(map(len, parts))
    skipped = struct.pack("<2I", 0x184D2A53, 5) + bytes(5)
    assert _zstd_size(skipped + packed) == sum(map(len, parts))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_as_zstd_end_in_an_answer(data: bytes, is_frame: bool) -> None:
    size = _zstd_size(ZSTD + data if is_frame else data)
    assert size is None or size >= 0
