"""An output store that is described once and written by many: metadata first, voxels by whoever, the mark at the end.

`create` writes all metadata and no voxel. From then on any process may `open` the store and write boxes of whole
blocks, each of which is one object for each channel, so that no two writers touch the same object. `finish` adds
what can only be made of the complete image, and last of all the mark that it is complete.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._coding import Coding, scaling_of
from geomedsr.io._staging import inside, write_errors
from geomedsr.io._zarr_codecs import compressor, guarded
from geomedsr.io._zarr_design import ArrayDesign, Design, design
from geomedsr.io._zarr_image import ZarrImage, levels_of, unfinished_at
from geomedsr.io._zarr_layout import NOTE, Layout, is_fill_invalid, number
from geomedsr.io._zarr_node import Node, read_node
from geomedsr.io._zarr_objects import object_boxes
from geomedsr.io._zarr_place import Place, remote_errors
from geomedsr.io._zarr_pyramid import build_pyramid, channel_windows

__all__ = ["ZarrOutput", "is_complete"]

_METADATA = {2: (".zmetadata", ".zattrs"), 3: ("zarr.json",)}
"""The objects that tell the root's attributes, the one that decides last."""


_DESCRIBING = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def is_complete(root: Path | str) -> bool:
    """Whether there is an output that was finished.

    Raises:
        InputError: there is something else, and its metadata is broken.
    """
    node = read_node(Path(root))
    written = node.attributes.get(NOTE) if node is not None else None
    return isinstance(written, Mapping) and written.get("complete") is True


class ZarrOutput:
    """A store under work. Its `spec.chunks` is the block of one stored object: a shard, or a chunk without shards."""

    def __init__(
        self, path: Path, image: ZarrImage, arrays: list[zarr.Array[Any]], spec: ImageSpec, name: Path | None = None
    ) -> None:
        self.path, self.spec = path, spec
        self._image, self._arrays, self._name = image, arrays, name or path
        self._coding = Coding(spec.dtype, spec.nodata, image.layout.scaling)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.path, self._name)

    @classmethod
    def create(
        cls,
        root: Path | str,
        spec: ImageSpec,
        options: Mapping[str, str] | None = None,
        *,
        store: Store | str | None = None,
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
        made = design(name or path, spec, options or {})
        store = store or _store(path)
        with write_errors(name or path), remote_errors():
            _clear(path, made)
            arrays = _created(store, made)
        return cls(path, unfinished_at(path), arrays, made.spec, name)

    @classmethod
    def open(cls, root: Path | str, name: Path | None = None) -> ZarrOutput:
        """The store that `create` made, in another process as well; nothing is written. `name` is as in `create`.

        Raises:
            InputError: there is none.
        """
        path = Path(root)
        node = read_node(path)
        if node is None or NOTE not in node.attributes:
            raise InputError(f"{Place(path)} is no output of geomedsr that could be written to.")
        image = unfinished_at(path)
        nodata = image.layout.nodata
        return cls(path, image, [_opened(array, nodata) for array in image.arrays], _spec_of(image), name)

    def write(self, box: Box, voxels: Voxels) -> NDArray[Any]:
        """Takes the physical voxels of a box of whole blocks, and gives the numbers that are stored for them.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        stored = self.stored(voxels)
        self.put(box, stored)
        return stored

    def stored(self, voxels: Voxels) -> NDArray[Any]:
        """Physical voxels as they are stored: what waits for the rest of its block takes no more room than that."""
        return self._coding.store(voxels)

    def put(self, box: Box, stored: NDArray[Any]) -> None:
        """Takes a box of whole blocks as `stored` gave it; one channel after the other, which bounds what is in memory.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        box.check_inside(self.spec.grid.shape)
        layout = self._image.layout
        each = len(stored) // len(self._arrays)
        with write_errors(self._name), remote_errors():
            for channel, voxels in enumerate(stored):
                _put(self._arrays[channel // each], layout, box, channel % each, voxels)

    def blank(self, box: Box) -> None:
        """Makes a box of whole blocks invalid, whatever was written there: what was not may read as a number.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        for key in self.object_keys(box):
            self.delete_object(key)
        invalid = self.stored(np.full((len(self.spec.channels), *(1,) * box.ndim), np.nan, np.float32))
        self.put(box, np.broadcast_to(invalid, (len(invalid), *box.shape)))

    def read_stored(self, box: Box) -> NDArray[Any]:
        """The numbers that are stored for a box.

        Raises:
            GridError: the box is not inside.
        """
        box.check_inside(self.spec.grid.shape)
        return np.concatenate([_got(array, self._image.layout, box) for array in self._arrays])

    def object_keys(self, box: Box) -> tuple[str, ...]:
        """The keys of all objects that a box of whole blocks covers, of all channels, whether they are there or not.

        Raises:
            GridError: the box is not inside.
        """
        box.check_inside(self.spec.grid.shape)
        layout = self._image.layout
        lead = (0,) * len(layout.lead)
        region = Box(lead + layout.stored(box.start), layout.lead + layout.stored(box.stop))
        return tuple(
            array.object_path(index).relative_to(self.path).as_posix()
            for array in self._image.arrays
            for index, _ in object_boxes(array, region)
        )

    def read_object(self, key: str) -> bytes | None:
        """The bytes of an object, or None where there is none."""
        return (Place(self.path) / key).read()

    def delete_object(self, key: str) -> None:
        """Removes an object; harmless where there is none."""
        (Place(self.path) / key).delete()

    def finish(self) -> None:
        """Adds the coarser levels and the consolidated metadata, and the mark that it is complete at the very end.

        What a writer that was killed has left half written goes.

        Raises:
            WriteFailedError: the disk is full.
        """
        with write_errors(self._name), remote_errors():
            if not Place(self.path).is_remote:
                _remove_partial(self.path)
            windows = self._build_levels() if self._image.multiscales is not None else []
            if not self._image.note.is_array:
                _consolidate(self.path, self._image.note.zarr_format)
            for name in _METADATA[self._image.note.zarr_format]:
                _mark(Place(self.path) / name, windows)

    def withdraw(self) -> None:
        """Takes the mark back: it is not complete after all.

        Raises:
            WriteFailedError: the disk is full.
        """
        with write_errors(self._name), remote_errors():
            for name in reversed(_METADATA[self._image.note.zarr_format]):
                _mark(Place(self.path) / name, (), is_complete=False)

    def _build_levels(self) -> list[dict[str, float]]:
        """Fills the coarser levels; gives the range of each channel, by the coarsest."""
        nodes = [node for node in map(read_node, levels_of(self.path)) if node is not None]
        arrays = [_opened(node, self.spec.nodata) for node in nodes]
        if not Place(self.path).is_remote:
            _remove_objects(nodes[1:])
        lead = len(self._image.layout.lead)
        build_pyramid(arrays, lead, self._coding)
        return channel_windows(arrays[-1], lead, self.spec.nodata)


def _remove_partial(path: Path) -> None:
    """Removes the files that were to be renamed when they are whole, as zarr and `Place.write` name them."""
    for one in inside(path):
        if one.suffix == ".partial":
            one.unlink(missing_ok=True)


def _remove_objects(nodes: Sequence[Node]) -> None:
    """What a run that ended while it built levels has left goes: a torn object would spoil even its replacement."""
    for node in nodes:
        for index, _ in object_boxes(node, Box.whole(node.shape)):
            Place(node.object_path(index)).delete()


def _store(path: Path) -> Store | str:
    return Place(path).remote_store(read_only=False) if Place(path).is_remote else os.fspath(path)


def _opened(node: Node, nodata: float | None) -> zarr.Array[Any]:
    with guarded():
        array: zarr.Array[Any] = zarr.open_array(_store(node.path), mode="r+", zarr_format=node.zarr_format)  # type: ignore[arg-type]
    return array.with_config({"write_empty_chunks": not is_fill_invalid(number(node.fill_value), nodata)})


def _spec_of(image: ZarrImage) -> ImageSpec:
    layout, array = image.layout, image.array
    assert array.dtype is not None, "an image has a dtype"
    ndim = layout.grid.ndim
    scaling = scaling_of([layout.scaling] * len(layout.channels))
    chunks = layout.taken((array.shards or array.chunks)[-ndim:])
    return ImageSpec(layout.grid, layout.channels, array.dtype, layout.nodata, chunks, scaling=scaling)


def _got(array: zarr.Array[Any], layout: Layout, box: Box) -> NDArray[Any]:
    lead = len(layout.lead)
    voxels = np.asarray(array[(*(slice(None),) * lead, *layout.stored(box.slices))])
    return voxels.transpose(*range(lead), *(lead + axis for axis in layout.axes)).reshape(-1, *box.shape)


def _put(array: zarr.Array[Any], layout: Layout, box: Box, channel: int, stored: NDArray[Any]) -> None:
    lead = np.unravel_index(channel, layout.lead) if layout.lead else ()
    array[(*map(int, lead), *layout.stored(box.slices))] = stored.transpose(layout.stored(range(box.ndim)))


def _clear(path: Path, made: Design) -> None:
    """Removes metadata that an earlier `create` left, so that this one can take its place."""
    for one in (None, *made.images, *made.levels, *made.beside):
        folder = Place(path) / one.name if one is not None and one.name else Place(path)
        for name in _DESCRIBING:
            (folder / name).delete()


def _created(store: Store | str, made: Design) -> list[zarr.Array[Any]]:
    """All metadata of a store, and the arrays that take the image."""
    if made.group is not None:
        zarr.create_group(
            store,
            zarr_format=made.storage.zarr_format,  # type: ignore[arg-type]
            attributes=dict(made.group),
            overwrite=False,
        )
    arrays = [_make(store, made, one) for one in made.images]
    for one in made.levels:
        _make(store, made, one)
    for one in made.beside:
        array = _make(store, made, one)
        assert one.voxels is not None, "what lies beside an image is known"
        array[...] = one.voxels
    return arrays


def _make(store: Store | str, made: Design, one: ArrayDesign) -> zarr.Array[Any]:
    storage = made.storage
    encoding = {"name": "v2" if storage.zarr_format == 2 else "default", "separator": storage.separator or "/"}
    fill = None if one.fill_value is None else float(one.fill_value)
    packed = None if one.voxels is not None else compressor(storage.compressor, storage.zarr_format)
    return zarr.create_array(
        store,
        name=one.name or None,
        shape=one.shape,
        dtype=one.dtype,
        chunks=one.chunks,
        shards=one.shards,
        compressors=packed,
        filters=None,
        fill_value=one.fill_value,
        config={"write_empty_chunks": one.voxels is not None or not is_fill_invalid(fill, made.spec.nodata)},
        zarr_format=storage.zarr_format,  # type: ignore[arg-type]
        chunk_key_encoding=encoding,  # type: ignore[arg-type]
        dimension_names=one.names if storage.zarr_format == 3 and one.names else None,
        attributes=dict(one.attributes),
    )


def _consolidate(path: Path, zarr_format: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # format 3 has no specification of it yet
        zarr.consolidate_metadata(_store(path), zarr_format=zarr_format)  # type: ignore[arg-type]


def _mark(place: Place, windows: Sequence[Mapping[str, float]], *, is_complete: bool = True) -> None:
    """Tells in an object of the root's metadata whether the image is complete, and which range its channels have."""
    text = place.read()
    if text is None:
        return
    data = json.loads(text)
    attributes = data["attributes"] if "attributes" in data else data.get("metadata", {}).get(".zattrs", data)
    attributes[NOTE]["complete"] = is_complete
    channels = attributes.get("ome", attributes).get("omero", {}).get("channels", [])
    for channel, window in zip(channels, windows, strict=False):
        channel.setdefault("window", dict(window))
    place.write(json.dumps(data, indent=2).encode())
