"""Zarr, formats 2 and 3: arrays read and written in boxes, alone (`scan.zarr`) or in a store (`scene.zarr/r10m/b02`).

What the axes and numbers of an array mean is told in `_zarr_layout`, what is let in at all in `_zarr_node`, how the
output is stored in `_zarr_storage`. An output is one array in a folder that appears when it is complete. It keeps
the source's format, chunks, shards, dtype, fill value and attributes, except those that tell of the old grid. It has no
mask: where the source had one, or real numbers become whole ones, invalid voxels get a nodata of their own (the highest
of unsigned, the lowest of signed numbers), and valid voxels of that value move to the neighbouring one.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from geomedsr.errors import InputError, OutputError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._coding import Coding, scaling_of
from geomedsr.io._staging import Staging
from geomedsr.io._zarr_codecs import guarded
from geomedsr.io._zarr_layout import layout_of, looks_like_image, number
from geomedsr.io._zarr_node import Node, arrays_below, read_node
from geomedsr.io._zarr_output import KEY, Remembered, ZarrOutput, stored_spec, target_spec
from geomedsr.io._zarr_storage import Storage
from geomedsr.io._zarr_store import EndableStore

__all__ = [
    "SUFFIXES",
    "ZarrOutput",
    "ZarrSink",
    "ZarrSource",
    "check_options",
    "create_sink",
    "members",
    "open_source",
    "target_spec",
]

SUFFIXES: tuple[str, ...] = (".zarr",)

_UNREADABLE = (OSError, ValueError, RuntimeError, TypeError, KeyError, EOFError, zlib.error, lzma.LZMAError)


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
            {KEY: Remembered(self._layout, storage, node.dtype, number(node.fill_value), node.attributes)},
            scaling_of([self._layout.scaling] * len(self._layout.channels)),
            has_holes=node.dtype.kind == "f" or self._layout.nodata is not None,
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


def create_sink(path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> ZarrSink:
    """A new array at a path; `options` are `chunks`, `shards`, `compressor` and `zarr_format`.

    Raises:
        GeomedsrError: an option cannot be.
        OutputError: the parent is missing or read-only, or something else than a zarr store is in the way.
    """
    if path.is_dir() and any(path.iterdir()) and read_node(path) is None:
        raise OutputError(f"{path} is a folder and no zarr store; it is not replaced. Choose another output.")
    check_options(path, spec, options or {})
    return ZarrSink(path, spec, options or {})


def check_options(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
    """Refuses options that `create_sink` would, without touching the disk.

    Raises:
        GeomedsrError: an unknown option, or a value that cannot be.
    """
    stored_spec(path, spec, options)


class ZarrSink:
    """A new store, written in boxes into a folder beside the target that takes its place at the end."""

    def __init__(self, path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
        self._written = 0
        self._staging = Staging(path, as_folder=True)
        self._store = EndableStore(self._staging.path)
        try:
            self._output = ZarrOutput.create(self._staging.path, spec, options, store=self._store, name=path)
        except BaseException:
            self.abort()
            raise

    @property
    def spec(self) -> ImageSpec:
        """What is written; its chunks are the objects of the store."""
        return self._output.spec

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the physical voxels of a box.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        self._output.write(box, voxels)
        self._written += box.size

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The store appears at the target, complete and seen by `verify`, instead of what was there.

        Raises:
            WriteFailedError: voxels are missing, or the disk is full.
        """
        self._staging.check_complete(self._written, self.spec.grid.shape)
        self._output.finish()
        self._staging.publish(verify=verify)

    def abort(self) -> None:
        """Nothing appears."""
        self._store.end()
        self._staging.discard()
