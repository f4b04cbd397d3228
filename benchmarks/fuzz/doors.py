"""The doors through which files come in: for each its valid examples, and what is done with a mutation of one."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.io import format_of
from geomedsr.io._limits import Limits, within

__all__ = ["DOORS", "Door", "packed", "unpacked"]

LIMITS = Limits(voxels=10**7, unpacked=64 << 20, block=32 << 20, channels=64, text=4 << 20)
_LARGEST_READ = 1 << 20
_FILE = struct.Struct("<HI")


@dataclass(frozen=True)
class Door:
    """`seeds` gives valid inputs as bytes; `enter` takes any bytes, and raises nothing but what is a fault."""

    name: str
    seeds: Callable[[], Iterator[bytes]]
    enter: Callable[[bytes], None]
    is_text: bool = False


def packed(files: Mapping[str, bytes]) -> bytes:
    """Several files as one input."""
    return b"".join(_FILE.pack(len(name), len(data)) + name.encode() + data for name, data in files.items())


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of an input; of one that was torn, what there is."""
    files, at = {}, 0
    while at + _FILE.size < len(data):
        name, size = _FILE.unpack_from(data, at)
        at += _FILE.size
        files[data[at : at + name].decode("latin-1")] = data[at + name : at + name + size]
        at += name + size
    return files


def _placed(files: Mapping[str, bytes], folder: Path) -> None:
    """Files below a folder; names that lead elsewhere, or cannot be, are left out."""
    for name, data in files.items():
        parts = [part for part in name.split("/") if part not in ("", ".", "..") and "\0" not in part]
        path = folder.joinpath(*parts)
        try:
            if parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        except OSError:
            continue


@contextmanager
def _allowed() -> Iterator[Path]:
    """A folder, in which a file may be refused."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch, within(LIMITS):
        try:
            yield Path(scratch)
        except GeomedsrError:
            return


def _through(path: Path, out: Path) -> None:
    """An image is found, opened, read in boxes, and written twice as fine with all that its file told of it."""
    form = format_of(path)
    for member in list(form.members(path))[:2]:
        source = form.open_source(member)
        try:
            spec = source.spec
            box = _first(spec.grid.shape, len(spec.channels))
            voxels = source.read(box)
            source.read(Box(tuple(n - 1 for n in spec.grid.shape), spec.grid.shape))
            part = replace(spec, grid=spec.grid.cropped(box)).upscaled((2,) * box.ndim)
            for axis in range(1, voxels.ndim):
                voxels = voxels.repeat(2, axis)
            sink = format_of(out).create_sink(out, part)
            try:
                sink.write(Box.whole(part.grid.shape), voxels)
                sink.commit()
            finally:
                sink.abort()
        finally:
            source.close()


def _first(shape: tuple[int, ...], channels: int) -> Box:
    """The first box of an image that is small enough to be read at once."""
    side = max(1, int((_LARGEST_READ / max(channels, 1)) ** (1 / len(shape))) // 4)
    return Box((0,) * len(shape), tuple(min(n, side) for n in shape))


def _nifti(data: bytes) -> None:
    with _allowed() as folder:
        name = "a.nii.gz" if data[:2] == b"\x1f\x8b" else "a.nii"
        (folder / name).write_bytes(data)
        _through(folder / name, folder / f"out{name[1:]}")


def _geotiff(data: bytes) -> None:
    with _allowed() as folder:
        (folder / "a.tif").write_bytes(data)
        _through(folder / "a.tif", folder / "out.tif")


def _zarr(data: bytes) -> None:
    with _allowed() as folder:
        _placed(unpacked(data), folder / "a.zarr")
        _through(folder / "a.zarr", folder / "out.zarr")


def _words(data: bytes) -> None:
    from geomedsr.pipeline import read_pipeline
    from geomedsr.recipe import read_recipe

    with _allowed() as folder:
        (folder / "r.yaml").write_bytes(data)
        read = read_pipeline if b"inputs" in data else read_recipe
        read(folder / "r.yaml")


def _lists(data: bytes) -> None:
    from geomedsr.pipeline import Pipeline
    from geomedsr.run.listing import listed

    with _allowed() as folder:
        is_json = data[:1] in (b"{", b"[")
        path = folder / ("l.json" if is_json else "l.csv")
        path.write_bytes(data)
        one = {"stac": str(path), "assets": ["data"]} if is_json else {"csv": str(path), "name": "name"}
        output = {"folder": str(folder / "out")}
        listed(Pipeline.model_validate({"inputs": [one], "model": "cubic", "output": output}))


def _weights(data: bytes) -> None:
    from geomedsr.model import Model

    with _allowed() as folder:
        files = unpacked(data)
        config, tensors = files.get("config.json", b""), files.get("model.safetensors", b"")
        # The checksum is made right, or no mutation would come behind it.
        config = config.replace(b"SHA256", hashlib.sha256(tensors).hexdigest().encode())
        _placed({"config.json": config, "model.safetensors": tensors}, folder / "m")
        Model.load(folder / "m")


def _encoders(data: bytes) -> None:
    from geomedsr.encoders import domain

    with _allowed() as folder:
        files = unpacked(data)
        config, tensors = files.get("encoder.json", b""), files.get("encoder.safetensors", b"")
        config = config.replace(b"SHA256", hashlib.sha256(tensors).hexdigest().encode())
        _placed({"encoder.json": config, "encoder.safetensors": tensors}, folder / "e")
        domain.load(str(folder / "e"))


def _written(suffix: str, spec: ImageSpec, options: Mapping[str, str] | None = None) -> bytes:
    """A small image as its format writes it."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        path = Path(scratch) / f"a{suffix}"
        sink = format_of(path).create_sink(path, spec, options or {})
        count = math.prod(spec.shape)
        sink.write(Box.whole(spec.grid.shape), (np.arange(count, dtype=np.float32) % 200).reshape(spec.shape))
        sink.commit()
        if path.is_file():
            return path.read_bytes()
        inside = (one for one in sorted(path.rglob("*")) if one.is_file())
        return packed({one.relative_to(path).as_posix(): one.read_bytes() for one in inside})


def _volume(dtype: str = "int16", channels: int = 1) -> ImageSpec:
    grid = Grid.of((6, 5, 4), np.array([[1.0, 0.1, 0, 3], [-0.1, 2, 0, 4], [0, 0, 1.5, 5], [0, 0, 0, 1]]), None, "mm")
    return ImageSpec(grid, tuple(f"frame {i}" for i in range(channels)), np.dtype(dtype))


def _raster(dtype: str = "uint16", channels: int = 2) -> ImageSpec:
    grid = Grid.of((9, 8), np.array([[0, 10.0, 5e5], [-10.0, 0, 5e6], [0, 0, 1]]), "EPSG:32632", "m")
    return ImageSpec(grid, ("red", "nir", "green", "blue")[:channels], np.dtype(dtype), nodata=0.0)


def _nifti_seeds() -> Iterator[bytes]:
    for dtype, channels in (("int16", 1), ("float32", 2), ("uint8", 1)):
        yield _written(".nii", _volume(dtype, channels))
    yield _written(".nii.gz", _volume())


def _geotiff_seeds() -> Iterator[bytes]:
    for dtype, channels, options in (
        ("uint16", 2, {}),
        ("float32", 1, {"COMPRESS": "NONE"}),
        ("uint8", 3, {"COMPRESS": "LZW", "INTERLEAVE": "PIXEL"}),
        ("int16", 1, {"BIGTIFF": "YES", "COMPRESS": "ZSTD"}),
    ):
        yield _written(".tif", _raster(dtype, channels), options)


def _zarr_seeds() -> Iterator[bytes]:
    for spec in (_raster(), _volume(), replace(_raster("float32", 1), grid=Grid.plain((9, 8)), nodata=None)):
        for form in ("2", "3"):
            yield _written(".zarr", spec, {"zarr_format": form, "chunks": "4", "compressor": "zstd"})
    yield _written(".zarr", _raster(), {"zarr_format": "3", "chunks": "2", "shards": "4", "compressor": "gzip"})


def _words_seeds() -> Iterator[bytes]:
    pipelines = Path(__file__).parents[2] / "pipelines"
    yield from (path.read_bytes() for path in sorted(pipelines.glob("*.yaml")))


def _lists_seeds() -> Iterator[bytes]:
    item = {"type": "Feature", "id": "a", "assets": {"data": {"href": "./a.tif"}, "far": {"href": "s3://b/c.zarr"}}}
    yield json.dumps(item).encode()
    yield json.dumps({"type": "FeatureCollection", "features": [item, {**item, "id": "../b"}]}).encode()
    yield b"path,name\na.tif,one\nb.nii.gz,two\n"


def _weights_seeds() -> Iterator[bytes]:
    from geomedsr.model import Model, build_network
    from geomedsr.recipe import read_recipe

    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        words = Path(__file__).parents[2] / "pipelines" / "mri_t1_x2.yaml"
        recipe = read_recipe(words, {"network": "{name: fsrcnn, width: 4, narrow: 2, layers: 1}"})
        Model("small", build_network(recipe), recipe).save(Path(scratch), "")
        files = {one.name: one.read_bytes() for one in Path(scratch).iterdir() if one.suffix != ".md"}
        files["config.json"] = json.dumps({**json.loads(files["config.json"]), "sha256": "SHA256"}).encode()
        yield packed(files)


def _encoders_seeds() -> Iterator[bytes]:
    import torch

    from geomedsr.encoders import domain

    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        torch.manual_seed(0)
        folder = Path(scratch) / "e"
        domain.write(domain.DomainEncoder(2, 1, (4, 4)), folder, {}, "")
        files = {one.name: one.read_bytes() for one in folder.iterdir()}
        files["encoder.json"] = json.dumps({**json.loads(files["encoder.json"]), "sha256": "SHA256"}).encode()
        yield packed(files)


DOORS = {
    door.name: door
    for door in (
        Door("nifti", _nifti_seeds, _nifti),
        Door("geotiff", _geotiff_seeds, _geotiff),
        Door("zarr", _zarr_seeds, _zarr),
        Door("words", _words_seeds, _words, is_text=True),
        Door("lists", _lists_seeds, _lists, is_text=True),
        Door("weights", _weights_seeds, _weights),
        Door("encoders", _encoders_seeds, _encoders),
    )
}
