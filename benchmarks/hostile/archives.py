"""Zarr: links and names that lead out, codecs that run code, chunks that unpack to anything, metadata that lies."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from benchmarks.hostile import _case
from benchmarks.hostile._case import Command, case

Edit = Callable[[dict[str, Any]], object]

RUNS_CODE = b"cos\nsystem\n(S'touch owned'\ntR."
"""A pickle that makes a file."""


def upscale() -> Command:
    """The command that upscales the store."""
    return _case.upscale("a.zarr", out="out.tif")


def array(folder: Path, zarr_format: int = 3, **more: Any) -> Path:  # noqa: ANN401 - zarr's own options
    """A store of one array of 8 x 8 sevens in chunks of 4 x 4."""
    path = folder / "a.zarr"
    options: dict[str, Any] = {"shape": (8, 8), "dtype": "uint8", "chunks": (4, 4), "compressors": None, **more}
    zarr.create_array(str(path), zarr_format=zarr_format, **options)[...] = 7  # type: ignore[arg-type]
    return path


def edited(path: Path, edit: Edit, name: str = "zarr.json") -> Command:
    """Metadata changed as JSON, and the command that upscales the store."""
    data = json.loads((path / name).read_text())
    edit(data)
    (path / name).write_text(json.dumps(data))
    return upscale()


def bomb(folder: Path, codec: dict[str, Any], packed: bytes, zarr_format: int = 3) -> Command:
    """A chunk of 16 bytes that is something else."""
    path = array(folder, zarr_format, shape=(4, 4))
    (path / {2: "0.0", 3: "c/0/0"}[zarr_format]).write_bytes(packed)
    if zarr_format == 2:
        return edited(path, lambda data: data.update(compressor=codec), ".zarray")
    return edited(path, lambda data: data["codecs"].append(codec))


def multiscales(folder: Path, scale: tuple[float, ...] = (1, 1), path: str = "0") -> Command:
    """An OME-Zarr image of one level."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    levels = [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}]
    told = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}}
    zarr.create_group(str(folder / "a.zarr"), attributes=told)
    (folder / "one").mkdir()
    array(folder / "one").rename(folder / "a.zarr" / "0")
    return upscale()


@case("c/0/0 is a link, which is not followed")
def chunk_link(folder: Path) -> Command:
    """zarr: a chunk that is a link out of the store"""
    path = array(folder)
    (path / "c/0/0").unlink()
    os.symlink("/etc/passwd", path / "c/0/0")
    return upscale()


@case("c/. is a link out of the store, which is not followed")
def folder_link(folder: Path) -> Command:
    """zarr: a folder of chunks that is a link out of the store"""
    path = array(folder)
    (path / "c").rename(folder / "elsewhere")
    os.symlink("../elsewhere", path / "c")
    return upscale()


@case(r"zarr\.json is a link, which is not followed")
def metadata_link(folder: Path) -> Command:
    """zarr: metadata that is a link"""
    path = array(folder)
    (path / "zarr.json").rename(folder / "elsewhere.json")
    os.symlink("../elsewhere.json", path / "zarr.json")
    return upscale()


@case("c/0/0 is no file")
def chunk_fifo(folder: Path) -> Command:
    """zarr: a chunk that is a pipe nobody writes into"""
    path = array(folder)
    (path / "c/0/0").unlink()
    os.mkfifo(path / "c/0/0")
    return upscale()


@case(r"names '\.\./other', which leads out of it")
def climbing_name(folder: Path) -> Command:
    """zarr: multiscales that name ../other"""
    return multiscales(folder, path="../other")


@case("neither . nor /")
def climbing_keys(folder: Path) -> Command:
    """zarr: keys of chunks that are separated by /../"""
    return edited(array(folder), lambda data: data["chunk_key_encoding"].update(configuration={"separator": "/../"}))


@case("too long for a name")
def long_name(folder: Path) -> Command:
    """zarr: multiscales with a name of 5,000 letters"""
    return multiscales(folder, path="a" * 5000)


@case("the codec pickle, which is not decoded here")
def pickle_codec(folder: Path) -> Command:
    """zarr: the codec pickle"""
    return bomb(folder, {"name": "numcodecs.pickle", "configuration": {}}, RUNS_CODE)


@case("only whole and real numbers are images")
def object_dtype(folder: Path) -> Command:
    """zarr: an array of objects, which runs code with numcodecs before 0.16.6"""
    path = array(folder, 2)
    (path / "0.0").write_bytes(RUNS_CODE)
    return edited(path, lambda data: data.update(dtype="|O", filters=[{"id": "pickle", "protocol": 5}]), ".zarray")


@case("is broken in")
def object_filter(folder: Path) -> Command:
    """zarr: a filter that makes objects of numbers"""
    path = array(folder, 2)
    (path / "0.0").write_bytes(pickle.dumps([1, 2, 3]))
    filters = [{"id": "astype", "encode_dtype": "|O", "decode_dtype": "|O"}]
    return edited(path, lambda data: data.update(filters=filters), ".zarray")


@case(r"1 of the chunks of a\.zarr were never written; their voxels are taken as invalid", code=0)
def missing_chunk(folder: Path) -> Command:
    """zarr: a chunk that is missing: counted, and its voxels invalid, not 0"""
    (array(folder) / "c/0/0").unlink()
    return upscale()


@case(r"check ok", code=0)
def stale_metadata(folder: Path) -> Command:
    """zarr: consolidated metadata of another array: not believed"""
    path = folder / "a.zarr"
    zarr.create_group(str(path))
    (folder / "one").mkdir()
    array(folder / "one").rename(path / "b02")
    told = json.loads((path / "b02/zarr.json").read_text())
    metadata = {"b02": {**told, "shape": [4, 4]}, "gone": told}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": metadata}
    return edited(path, lambda data: data.update(consolidated_metadata=consolidated))


@case(r"has the scale \[0, 1\]; it must be 2 numbers, positive and finite")
def scale_zero(folder: Path) -> Command:
    """zarr: an NGFF scale of 0"""
    return multiscales(folder, (0, 1))


@case(r"has the scale \[-1, 1\]; it must be 2 numbers, positive and finite")
def scale_negative(folder: Path) -> Command:
    """zarr: a negative NGFF scale"""
    return multiscales(folder, (-1, 1))


@case("more than the 1.1 GB that may be read at once")
def huge_chunks(folder: Path) -> Command:
    """zarr: chunks of 2^40 x 2^40"""
    return edited(array(folder), lambda data: data["chunk_grid"]["configuration"].update(chunk_shape=[1 << 40] * 2))


@case(r"has 1\.21e\+24 voxels in all channels, more than the 1e\+12 allowed")
def huge_shape(folder: Path) -> Command:
    """zarr: 2^40 x 2^40 voxels in 1 kB"""
    return edited(array(folder), lambda data: data.update(shape=[1 << 40] * 2))


@case("has 1.21e.24 voxels in all channels")
def huge_shards(folder: Path) -> Command:
    """zarr: 2^40 x 2^40 voxels in shards, which nobody could count"""
    return edited(array(folder, shards=(8, 8)), lambda data: data.update(shape=[1 << 40] * 2))


@case("c/0/0 tells of chunks beyond its end")
def lying_shard(folder: Path) -> Command:
    """zarr: a shard whose index tells of 2^50 bytes"""
    import google_crc32c

    path = array(folder, shards=(8, 8)) / "c/0/0"
    data = bytearray(path.read_bytes())
    index = np.frombuffer(bytes(data[-68:-4]), "<u8").copy()
    index[1] = 1 << 50
    path.write_bytes(bytes(data[:-68]) + index.tobytes() + struct.pack("<I", google_crc32c.value(index.tobytes())))
    return upscale()


@case(r"unpacks to more than the 16 bytes of a chunk")
def gzip_bomb(folder: Path) -> Command:
    """zarr: a gzip chunk of 2 MB that unpacks to 2 GB"""
    return bomb(folder, {"name": "gzip", "configuration": {"level": 5}}, gzip.compress(bytes(1 << 20)) * 250 * 8)


@case(r"unpacks to more than the 16 bytes of a chunk")
def zlib_bomb(folder: Path) -> Command:
    """zarr: a zlib chunk that unpacks to 256 MB"""
    return bomb(folder, {"id": "zlib", "level": 1}, zlib.compress(bytes(1 << 28)), 2)


@case("a chunk of 16 bytes claims to unpack to 268435456")
def zstd_bomb(folder: Path) -> Command:
    """zarr: a zstd chunk of 8 kB that unpacks to 256 MB"""
    packed = bytes(numcodecs.Zstd().encode(np.zeros(1 << 28, np.uint8)))
    return bomb(folder, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}, packed)


@case("Destination buffer is too small")
def zstd_silent_bomb(folder: Path) -> Command:
    """zarr: a zstd chunk that does not say its size and unpacks to 2.6 GB"""
    block = (((1 << 17) << 3) | 2).to_bytes(3, "little") + b"\0"
    return bomb(folder, {"id": "zstd", "level": 1}, b"\x28\xb5\x2f\xfd\0\x58" + block * 20_000 + b"\x0b\0\0\0", 2)


@case("a chunk of 16 bytes claims to unpack to 35184372088832")
def zstd_claim(folder: Path) -> Command:
    """zarr: a zstd chunk of 16 bytes that claims 32 TB"""
    packed = b"\x28\xb5\x2f\xfd\xe0" + (1 << 45).to_bytes(8, "little") + b"\x01\0\0"
    return bomb(folder, {"id": "zstd", "level": 1}, packed, 2)


@case("a chunk of 16 bytes claims to unpack to 268435456")
def blosc_bomb(folder: Path) -> Command:
    """zarr: a blosc chunk of 1 MB that unpacks to 256 MB"""
    packed = bytes(numcodecs.Blosc(shuffle=0).encode(np.zeros(1 << 28, np.uint8)))
    codec = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0, "blocksize": 0}
    return bomb(folder, codec, packed, 2)


@case("is broken in")
def short_chunk(folder: Path) -> Command:
    """zarr: a chunk that holds less than it should"""
    return bomb(folder, {"id": "zlib", "level": 1}, zlib.compress(bytes(5)), 2)


@case("more than the 33.6 MB allowed")
def huge_metadata(folder: Path) -> Command:
    """zarr: metadata of 64 MB"""
    return edited(array(folder), lambda data: data.update(attributes={"x": "a" * (64 << 20)}))


@case("RecursionError")
def deep_metadata(folder: Path) -> Command:
    """zarr: metadata 200,000 brackets deep"""
    (array(folder) / "zarr.json").write_text("[" * 200_000)
    return upscale()


@case("the attributes are no object")
def attributes_list(folder: Path) -> Command:
    """zarr: attributes that are a list"""
    return edited(array(folder), lambda data: data.update(attributes=[1]))


@case("more than 64 groups deep")
def deep_groups(folder: Path) -> Command:
    """zarr: groups in groups, 900 deep"""
    here = path = folder / "a.zarr"
    zarr.create_group(str(path))
    for _ in range(900):
        here = here / "g"
        here.mkdir()
        shutil.copy(path / "zarr.json", here)
    return upscale()
