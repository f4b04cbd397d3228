"""An output store that is described once and written by many: metadata first, voxels by whoever, the mark at the end.

`create` writes all metadata and no voxel. From then on any process may `open` the store and write boxes of whole
blocks, each of which is one object for each channel, so that no two writers touch the same object. `finish` adds
what can only be made of the complete image, and last of all the mark that it is complete.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from geomedsr.errors import InputError, OutputError
from geomedsr.grid import Box, Shape
from geomedsr.image import ImageSpec, Scaling, Voxels
from geomedsr.io._coding import PLAIN, Coding, nodata_without_mask, scaling_of, with_one_scaling
from geomedsr.io._staging import write_errors
from geomedsr.io._zarr_codecs import compressor, guarded
from geomedsr.io._zarr_layout import NOTE, Layout, fill_attribute, layout_of, note
from geomedsr.io._zarr_node import Node, read_node
from geomedsr.io._zarr_place import Place
from geomedsr.io._zarr_storage import Storage

__all__ = ["KEY", "Remembered", "ZarrOutput", "is_complete", "stored_spec", "target_spec"]

KEY = "zarr_archive"
"""Under which an `ImageSpec.extra` has what is remembered of a zarr source."""

_COMPLETE = "complete"
_AXIS_NAMES = {2: ("y", "x"), 3: ("x", "y", "z")}
_OF_THE_OLD_NUMBERS = {"valid_min", "valid_max", "valid_range", "dtype"}
_WRITTEN_ANEW = {"scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "_ARRAY_DIMENSIONS", "axes"}
_OF_THE_OLD_GRID = {"GeoTransform", "multiscales", "transform"}


@dataclass(frozen=True)
class Remembered:
    """What a source's array was, for the output that is its like."""

    layout: Layout
    storage: Storage
    dtype: np.dtype[Any]
    fill_value: float | None
    attributes: Mapping[str, Any]


def target_spec(path: Path, spec: ImageSpec) -> ImageSpec:
    """What will be read back from an array of this image; of channels that are scaled differently, float32.

    Raises:
        OutputError: zarr has no place for such voxels.
    """
    if spec.dtype.kind not in "biuf" or spec.dtype.itemsize > 8:
        raise OutputError(f"{path.name} would hold whole or real numbers of up to 64 bits, not {spec.dtype}.")
    spec = with_one_scaling(spec)
    return replace(spec, nodata=nodata_without_mask(spec))


def stored_spec(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> tuple[ImageSpec, Storage]:
    """What an output will be, its chunks one stored object, and how it is stored.

    Raises:
        GeomedsrError: an option is unknown, or a value cannot be.
        OutputError: zarr has no place for such voxels.
    """
    spec = target_spec(path, spec)
    before = _remembered(spec)
    storage = (before.storage if before else Storage()).with_options(options)
    storage = storage.fitted(spec.grid.shape, spec.dtype.itemsize)
    return replace(spec, chunks=storage.block), storage


def is_complete(root: Path | str) -> bool:
    """Whether there is an output that was finished.

    Raises:
        InputError: there is something else, or its metadata is broken.
    """
    node = read_node(Path(root))
    written = node.attributes.get(NOTE) if node is not None else None
    return isinstance(written, Mapping) and written.get(_COMPLETE) is True


class ZarrOutput:
    """A store under work. Its `spec.chunks` is the block of one stored object: a shard, or a chunk without shards."""

    def __init__(
        self, path: Path, array: zarr.Array[Any], spec: ImageSpec, lead: Shape, name: Path | None = None
    ) -> None:
        self.path, self.spec = path, spec
        self._name = name or path
        self._array, self._lead = array, lead
        self._coding = Coding(spec.dtype, spec.nodata, spec.scaling[0] if spec.scaling else PLAIN)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.path,)

    @classmethod
    def create(
        cls,
        root: Path | str,
        spec: ImageSpec,
        options: Mapping[str, str] | None = None,
        *,
        store: Store | None = None,
        name: Path | None = None,
    ) -> ZarrOutput:
        """A store with all its metadata and no voxel; `root` is a folder or a URL.

        Metadata that is there is written over, objects are left alone. `store` is what writes into it, if not
        what the root says, and `name` is what it is called in messages.

        Raises:
            GeomedsrError: an option cannot be.
            OutputError: zarr has no place for such voxels.
            WriteFailedError: the disk is full.
        """
        path = Path(root)
        spec, storage = stored_spec(path, spec, options or {})
        before = _remembered(spec)
        lead = _lead(spec, before)
        with write_errors(name or path):
            array = _created(store or _store(path), spec, storage, lead, before)
        return cls(path, array, spec, lead, name)

    @classmethod
    def open(cls, root: Path | str) -> ZarrOutput:
        """The store that `create` made, in another process as well; nothing is written.

        Raises:
            InputError: there is none.
        """
        path = Path(root)
        node = read_node(path)
        if node is None or node.dtype is None or NOTE not in node.attributes:
            raise InputError(f"{Place(path)} is no output of geomedsr that could be written to.")
        layout = layout_of(node)
        with guarded():
            array = zarr.open_array(_store(path), mode="r+", zarr_format=node.zarr_format)  # type: ignore[arg-type]
        array = array.with_config({"write_empty_chunks": node.fill_value is None})
        return cls(path, array, _spec_of(node, layout), layout.lead)

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the physical voxels of a box of whole blocks.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        box.check_inside(self.spec.grid.shape)
        stored = self._coding.store(voxels)
        index = (*(slice(None),) * len(self._lead), *box.slices)
        with write_errors(self._name):
            self._array[index] = stored.reshape(*self._lead, *box.shape)

    def object_keys(self, box: Box) -> tuple[str, ...]:
        """The keys of all objects that a box of whole blocks covers, of all channels, whether they are there or not.

        Raises:
            GridError: the box is not inside.
        """
        box.check_inside(self.spec.grid.shape)
        sides = self._array.shards or self._array.chunks
        region = Box((0,) * len(self._lead) + box.start, self._lead + box.stop)
        ranges = [range(a // n, -(-b // n)) for a, b, n in zip(region.start, region.stop, sides, strict=True)]
        return tuple(self._key(index) for index in product(*ranges))

    def read_object(self, key: str) -> bytes | None:
        """The bytes of an object, or None where there is none."""
        return (Place(self.path) / key).read()

    def delete_object(self, key: str) -> None:
        """Removes an object; harmless where there is none."""
        (Place(self.path) / key).delete()

    def finish(self) -> None:
        """Adds what can only be made of the complete image, and the mark that it is complete at the very end.

        Raises:
            WriteFailedError: the disk is full.
        """
        with write_errors(self._name):
            written = {**dict(self._array.attrs)[NOTE], _COMPLETE: True}  # type: ignore[dict-item]
            self._array.update_attributes({NOTE: written})

    def _key(self, index: Sequence[int]) -> str:
        return str(self._array.metadata.encode_chunk_key(tuple(index)))


def _store(path: Path) -> Store | str:
    return Place(path).remote_store(read_only=False) if Place(path).is_remote else os.fspath(path)


def _remembered(spec: ImageSpec) -> Remembered | None:
    """What is remembered of the source, if the output has its axes."""
    before = spec.extra.get(KEY)
    return before if isinstance(before, Remembered) and before.layout.grid.ndim == spec.grid.ndim else None


def _spec_of(node: Node, layout: Layout) -> ImageSpec:
    assert node.dtype is not None, "an array has a dtype"
    scaling: tuple[Scaling, ...] = scaling_of([layout.scaling] * len(layout.channels))
    chunks = (node.shards or node.chunks)[-layout.grid.ndim :]
    return ImageSpec(layout.grid, layout.channels, node.dtype, layout.nodata, chunks, scaling=scaling)


def _lead(spec: ImageSpec, before: Remembered | None) -> Shape:
    """The channel axes of the output: those of the source while it has all its channels, else one, or none for one."""
    if before is not None and math.prod(before.layout.lead) == len(spec.channels):
        return before.layout.lead
    return (len(spec.channels),) if len(spec.channels) > 1 else ()


def _created(
    store: Store | str, spec: ImageSpec, storage: Storage, lead: Shape, before: Remembered | None
) -> zarr.Array[Any]:
    assert storage.chunks is not None, "fitted() comes first"
    names = before.layout.names if before is not None and lead == before.layout.lead else None
    if names is None:
        names = (
            *(f"channel_{i}" if len(lead) > 1 else "channel" for i in range(len(lead))),
            *_AXIS_NAMES[spec.grid.ndim],
        )
    ones = (1,) * len(lead)
    encoding = {"name": "v2" if storage.zarr_format == 2 else "default", "separator": storage.separator or "/"}
    fill = _fill_value(spec, storage, before)
    return zarr.create_array(
        store,
        shape=(*lead, *spec.grid.shape),
        dtype=spec.dtype,
        chunks=(*ones, *storage.chunks),
        shards=(*ones, *storage.shards) if storage.shards is not None else None,
        compressors=compressor(storage.compressor, storage.zarr_format),
        filters=None,
        fill_value=fill,
        config={"write_empty_chunks": fill is None},  # a chunk left out would read as anything
        zarr_format=storage.zarr_format,  # type: ignore[arg-type]
        chunk_key_encoding=encoding,  # type: ignore[arg-type]
        dimension_names=names if storage.zarr_format == 3 else None,
        attributes=_attributes(spec, storage, names, before),
    )


def _attributes(spec: ImageSpec, storage: Storage, names: tuple[str, ...], before: Remembered | None) -> dict[str, Any]:
    """The source's attributes that are still true, what xarray looks for, and the note of our own."""
    attributes = _still_true(spec, before) if before is not None else {}
    if storage.zarr_format == 2:
        attributes["_ARRAY_DIMENSIONS"] = list(names)
    elif spec.nodata is not None:
        attributes["_FillValue"] = fill_attribute(spec.nodata, spec.dtype)
    if spec.scaling:
        attributes["scale_factor"], attributes["add_offset"] = spec.scaling[0].slope, spec.scaling[0].intercept
    return {**attributes, NOTE: note(spec)}


def _still_true(spec: ImageSpec, before: Remembered) -> dict[str, Any]:
    stale = _WRITTEN_ANEW
    if before.dtype != spec.dtype:
        stale = stale | _OF_THE_OLD_NUMBERS
    has_moved = before.layout.grid != spec.grid
    if has_moved:
        stale = stale | _OF_THE_OLD_GRID
    return {
        key: value
        for key, value in before.attributes.items()
        if key not in stale and not (has_moved and key.startswith("spatial:"))
    }


def _fill_value(spec: ImageSpec, storage: Storage, before: Remembered | None) -> Any:  # noqa: ANN401 - of any dtype
    """What a chunk reads as that was never written: invalid where the numbers can say so.

    In format 2, with names of axes, every fill value means "invalid" to xarray and GDAL: there is none without nodata.
    """
    value = spec.nodata
    if value is None and storage.zarr_format == 2:
        return None
    if value is None and before is not None and before.dtype == spec.dtype:
        value = before.fill_value
    return Coding(spec.dtype).store(np.array([np.nan if value is None else value]))[0]
