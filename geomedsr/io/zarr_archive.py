"""Zarr, formats 2 and 3: arrays read and written in boxes, alone (`scan.zarr`) or in a store (`scene.zarr/r10m/b02`).

What the axes and numbers of an array mean is told in `_zarr_layout`, what is let in at all in `_zarr_node`, how the
output is stored in `_zarr_storage`. An output is one array in a folder that appears when it is complete. It keeps
the source's format, chunks, shards, dtype, fill value and attributes, except those that tell of the old grid. It has no
mask: where the source had one, or real numbers become whole ones, invalid voxels get a nodata of their own (the highest
of unsigned, the lowest of signed numbers), and valid voxels of that value move to the neighbouring one.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from geomedsr.errors import InputError, OutputError
from geomedsr.grid import Box, Shape
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._coding import PLAIN, Coding, nodata_without_mask, scaling_of, with_one_scaling
from geomedsr.io._staging import Staging, write_errors
from geomedsr.io._zarr_codecs import compressor, guarded
from geomedsr.io._zarr_layout import NOTE, Layout, fill_attribute, layout_of, looks_like_image, note, number
from geomedsr.io._zarr_node import Node, arrays_below, read_node
from geomedsr.io._zarr_storage import Storage
from geomedsr.io._zarr_store import EndableStore

__all__ = [
    "SUFFIXES",
    "Remembered",
    "ZarrSink",
    "ZarrSource",
    "check_options",
    "create_sink",
    "members",
    "open_source",
    "target_spec",
]

SUFFIXES: tuple[str, ...] = (".zarr",)

_KEY = "zarr_archive"
_PROVENANCE = "geomedsr_provenance"
_AXIS_NAMES = {2: ("y", "x"), 3: ("x", "y", "z")}
_OF_THE_OLD_NUMBERS = {"valid_min", "valid_max", "valid_range", "dtype"}
_WRITTEN_ANEW = {"scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "_ARRAY_DIMENSIONS", "axes"}
_OF_THE_OLD_GRID = {"GeoTransform", "multiscales", "transform"}
_UNREADABLE = (OSError, ValueError, RuntimeError, TypeError, KeyError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Remembered:
    """What a source's array was, for the sink that writes its like."""

    layout: Layout
    storage: Storage
    dtype: np.dtype[Any]
    fill_value: float | None
    attributes: Mapping[str, Any]


def members(path: Path) -> Iterator[Path]:
    """The array at a path, or the arrays below it that look like images.

    Raises:
        InputError: there is no zarr store, or its metadata is broken.
    """
    node = _node(path)
    if node.is_array:
        yield path
    else:
        yield from (array.path for array in arrays_below(path) if looks_like_image(array))


def open_source(path: Path) -> ZarrSource:
    """The array at a path, or the one image of the group there.

    Raises:
        InputError: there is none, there are several, or it is no image.
    """
    node = _node(path)
    if node.is_array:
        return ZarrSource(node)
    found = list(members(path))
    if len(found) != 1:
        names = ", ".join(str(array) for array in found[:8])
        raise InputError(f"{path} holds {len(found)} images{f'; name one of {names}' if found else ''}.")
    return ZarrSource(_node(found[0]))


def _node(path: Path) -> Node:
    if not path.exists():
        raise InputError(f"There is no {path}.")
    node = read_node(path)
    if node is None:
        raise InputError(f"{path} is no zarr store: it has no zarr.json, .zarray or .zgroup.")
    return node


class ZarrSource:
    """An array of a zarr store, read in boxes."""

    def __init__(self, node: Node) -> None:
        if node.refusal is not None or node.dtype is None:
            raise InputError(f"{node.path} cannot be read: {node.refusal}.")
        self._node, self._path = node, node.path
        self._layout = layout_of(node)
        ndim = self._layout.grid.ndim
        storage = Storage.of(node, ndim)
        self._spec = ImageSpec(
            self._layout.grid,
            self._layout.channels,
            node.dtype,
            self._layout.nodata,
            (node.shards or node.chunks)[-ndim:],
            {_KEY: Remembered(self._layout, storage, node.dtype, number(node.fill_value), node.attributes)},
            scaling_of([self._layout.scaling] * len(self._layout.channels)),
            has_holes=node.dtype.kind == "f" or self._layout.nodata is not None,
            provenance=provenance if isinstance(provenance := node.attributes.get(_PROVENANCE), str) else None,
        )
        self._coding = Coding(node.dtype, self._layout.nodata, self._layout.scaling)
        self._array: zarr.Array[Any] | None = None

    @property
    def spec(self) -> ImageSpec:
        """Everything but the voxels."""
        return self._spec

    def read(self, box: Box) -> Voxels:
        """The voxels of a box, physical, NaN where invalid.

        Raises:
            GridError: the box is not inside.
            InputError: the data is broken.
        """
        box.check_inside(self._spec.grid.shape)
        lead = self._layout.lead
        try:
            self._check_shards(box)
            raw = np.asarray(self._opened()[(*(slice(None),) * len(lead), *box.slices)])
        except _UNREADABLE as error:
            reason = str(error) or type(error).__name__
            raise InputError(f"{self._path} is broken in {box.start} to {box.stop}: {reason}.") from error
        return self._coding.physical(raw.reshape(self._spec.shape[0], *box.shape))

    def close(self) -> None:
        """Lets go of the array; reading again opens it again."""
        self._array = None

    def _check_shards(self, box: Box) -> None:
        """Refuses an empty shard, which zarr takes for one that was never written: a crash leaves such files."""
        if self._node.shards is None:
            return
        region = Box((0,) * len(self._layout.lead) + box.start, self._layout.lead + box.stop)
        sides = zip(region.start, region.stop, self._node.shards, strict=True)
        for index in product(*(range(start // side, -(-stop // side)) for start, stop, side in sides)):
            path = self._node.object_path(index)
            if path.exists() and path.stat().st_size == 0:
                raise OSError(f"{path.relative_to(self._path)} is empty")

    def _opened(self) -> zarr.Array[Any]:
        if self._array is None:
            with guarded():
                self._array = zarr.open_array(str(self._path), mode="r", zarr_format=self._node.zarr_format)  # type: ignore[arg-type]
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_array": None}


def target_spec(path: Path, spec: ImageSpec) -> ImageSpec:
    """What will be read back from an array of this image; of channels that are scaled differently, float32.

    Raises:
        OutputError: zarr has no place for such voxels.
    """
    if spec.dtype.kind not in "biuf" or spec.dtype.itemsize > 8:
        raise OutputError(f"{path.name} would hold whole or real numbers of up to 64 bits, not {spec.dtype}.")
    spec = with_one_scaling(spec)
    return replace(spec, nodata=nodata_without_mask(spec))


def create_sink(path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> ZarrSink:
    """A new array at a path; `options` are `chunks`, `shards`, `compressor` and `zarr_format`.

    Raises:
        GeomedsrError: an option cannot be.
        OutputError: the parent is missing or read-only, or something else than a zarr store is in the way.
    """
    if path.is_dir() and any(path.iterdir()) and read_node(path) is None:
        raise OutputError(f"{path} is a folder and no zarr store; it is not replaced. Choose another output.")
    spec = target_spec(path, spec)
    before, storage = _stored(spec, options or {})
    return ZarrSink(path, replace(spec, chunks=storage.block), storage, before)


def check_options(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
    """Refuses options that `create_sink` would, without touching the disk.

    Raises:
        GeomedsrError: an unknown option, or a value that cannot be.
    """
    _stored(target_spec(path, spec), options)


def _stored(spec: ImageSpec, options: Mapping[str, str]) -> tuple[Remembered | None, Storage]:
    """What is remembered of the source, if the output has its axes, and how the output is stored."""
    before = spec.extra.get(_KEY)
    before = before if isinstance(before, Remembered) and before.layout.grid.ndim == spec.grid.ndim else None
    storage = (before.storage if before else Storage()).with_options(options)
    return before, storage.fitted(spec.grid.shape, spec.dtype.itemsize)


class ZarrSink:
    """A new array, written in boxes into a folder beside the target that takes its place at the end."""

    def __init__(self, path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> None:
        self.spec = spec
        self._coding = Coding(spec.dtype, spec.nodata, spec.scaling[0] if spec.scaling else PLAIN)
        self._lead = _lead(spec, before)
        self._path = path
        self._written = 0
        self._staging = Staging(path, as_folder=True)
        self._store = EndableStore(self._staging.path)
        try:
            with write_errors(path):
                self._array = _created(self._store, spec, storage, self._lead, before)
        except BaseException:
            self.abort()
            raise

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the physical voxels of a box.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        box.check_inside(self.spec.grid.shape)
        stored = self._coding.store(voxels)
        index = (*(slice(None),) * len(self._lead), *box.slices)
        with write_errors(self._path):
            self._array[index] = stored.reshape(*self._lead, *box.shape)
        self._written += box.size

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The array appears at the target, complete and seen by `verify`, instead of what was there.

        Raises:
            WriteFailedError: voxels are missing, or the disk is full.
        """
        self._staging.check_complete(self._written, self.spec.grid.shape)
        self._staging.publish(verify=verify)

    def abort(self) -> None:
        """Nothing appears."""
        self._store.end()
        self._staging.discard()


def _lead(spec: ImageSpec, before: Remembered | None) -> Shape:
    """The channel axes of the output: those of the source while it has all its channels, else one, or none for one."""
    if before is not None and math.prod(before.layout.lead) == len(spec.channels):
        return before.layout.lead
    return (len(spec.channels),) if len(spec.channels) > 1 else ()


def _created(
    store: EndableStore, spec: ImageSpec, storage: Storage, lead: Shape, before: Remembered | None
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
    if spec.provenance is not None:
        attributes[_PROVENANCE] = spec.provenance
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
