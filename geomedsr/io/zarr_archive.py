"""Zarr, formats 2 and 3, in boxes: arrays, OME-Zarr, rasters with a place on earth; on a disk or at a URL.

What makes an image is told in `_zarr_image`, what the axes and numbers of an array mean in `_zarr_layout`, where it
lies in `_zarr_ngff` and `_zarr_geo`, and what is let in at all in `_zarr_node`. An output is laid out as `_zarr_design`
says: it keeps the source's convention, format, chunks, shards, dtype, fill value and attributes, except those that tell
of the old grid. It has no mask: where the source had one, or real numbers become whole ones, invalid voxels get a
nodata of their own (the highest of unsigned, the lowest of signed numbers), and valid voxels of that value move to the
neighbouring one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomedsr.errors import InputError, OutputError, WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._coding import Coding, scaling_of
from geomedsr.io._limits import limits
from geomedsr.io._staging import Staging
from geomedsr.io._witness import Witness
from geomedsr.io._zarr_codecs import UNREADABLE, opened
from geomedsr.io._zarr_decoders import unpacking
from geomedsr.io._zarr_design import KEY, Remembered, design, target_spec
from geomedsr.io._zarr_image import ZarrImage, image_at, levels_of, members_of
from geomedsr.io._zarr_layout import is_fill_invalid, number
from geomedsr.io._zarr_nifti import KEY as NIFTI
from geomedsr.io._zarr_node import Node, read_node
from geomedsr.io._zarr_objects import check_objects, count_missing, missing_within
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io._zarr_place import Place, remote_errors
from geomedsr.io._zarr_remote import RemoteZarrSink
from geomedsr.io._zarr_storage import Storage
from geomedsr.io._zarr_store import EndableStore

if TYPE_CHECKING:
    import zarr

__all__ = [
    "SUFFIXES",
    "ZarrOutput",
    "ZarrSink",
    "ZarrSource",
    "check_options",
    "create_sink",
    "levels",
    "members",
    "open_source",
    "target_spec",
]

SUFFIXES: tuple[str, ...] = (".zarr",)


def members(path: Path) -> Iterator[Path]:
    """The array at a path, or the images below a group there; of several resolutions of one image the finest.

    Raises:
        InputError: there is no zarr store, or its metadata is broken.
    """
    return members_of(path)


def levels(path: Path) -> tuple[Path, ...]:
    """The resolutions of the image at a path, each a path of its own, finest first.

    Raises:
        InputError: there is no zarr store, or its metadata is broken.
    """
    return levels_of(path)


def open_source(path: Path) -> ZarrSource:
    """The array at a path, or the one image of the group there.

    Raises:
        InputError: there is none, there are several, or it is no image.
    """
    return ZarrSource(image_at(path))


class ZarrSource:
    """An image of a zarr store, read in boxes."""

    def __init__(self, image: ZarrImage) -> None:
        node, layout = image.array, image.layout
        if node.refusal is not None or node.dtype is None:
            raise InputError(f"{node.path} cannot be read: {node.refusal}.")
        limits().check_channels(node.path, len(layout.channels))
        limits().check_voxels(node.path, math.prod((len(layout.channels), *layout.grid.shape)))
        self._image, self._layout = image, layout
        self._missing = _missing(image)
        self._coding = Coding(node.dtype, layout.nodata, layout.scaling)
        self._spec = _spec_of(image, self._missing)
        self._arrays: list[zarr.Array[Any]] | None = None

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
        region = self._region(box)
        try:
            with remote_errors():
                pairs = zip(self._image.arrays, self._opened(), strict=True)
                raw = [self._read(node, array, region) for node, array in pairs]
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise InputError(f"{self._image.path} is broken in {box.start} to {box.stop}: {reason}.") from error
        return np.concatenate(raw) if len(raw) > 1 else raw[0]

    def close(self) -> None:
        """Lets go of the arrays; reading again opens them again."""
        self._arrays = None

    def _region(self, box: Box) -> Box:
        """A box as a region of the arrays, channel axes and all, in the order in which they are stored."""
        layout = self._layout
        return Box(
            (0,) * len(layout.lead) + layout.stored(box.start),
            layout.lead + layout.stored(box.stop),
        )

    def _read(self, node: Node, array: zarr.Array[Any], region: Box) -> Voxels:
        """A region of an array as voxels (C, *S): physical, NaN where invalid or never written."""
        check_objects(node, region)
        missing = list(missing_within(node, region)) if self._missing != 0 else []
        with unpacking(node.unpacked):
            voxels = self._coding.physical(np.asarray(array[region.slices]))
        for box in missing:
            voxels[box.relative_to(region.start).slices] = np.nan
        lead = len(self._layout.lead)
        turned = voxels.transpose(*range(lead), *(lead + axis for axis in self._layout.axes))
        return np.ascontiguousarray(turned).reshape(-1, *turned.shape[lead:])

    def _opened(self) -> list[zarr.Array[Any]]:
        if self._arrays is None:
            self._arrays = [opened(node) for node in self._image.arrays]
        return self._arrays

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_arrays": None}


def _missing(image: ZarrImage) -> int | None:
    """How many chunks of an image were never written and read as a number that may be good; None where nobody knows."""
    if is_fill_invalid(number(image.array.fill_value), image.layout.nodata):
        return 0
    try:
        counts = [count_missing(node) for node in image.arrays]
    except OSError:
        return None  # reading what is broken tells of it
    return None if None in counts else sum(count or 0 for count in counts)


def _spec_of(image: ZarrImage, missing: int | None) -> ImageSpec:
    node, layout = image.array, image.layout
    assert node.dtype is not None, "an image has a dtype"
    ndim = layout.grid.ndim
    extra: dict[str, object] = {KEY: Remembered(image, Storage.of(node, ndim, layout.taken))}
    if image.header is not None:
        extra[NIFTI] = image.header
    if missing:
        extra["notes"] = (
            f"{missing} of the chunks of {Place(image.path)} were never written; their voxels are taken as invalid "
            f"(docs/zarr.md says how to have them as {number(image.array.fill_value) or 0:g}).",
        )
    return ImageSpec(
        layout.grid,
        layout.channels,
        node.dtype,
        layout.nodata,
        layout.taken((node.shards or node.chunks)[-ndim:]),
        extra,
        scaling_of([layout.scaling] * len(layout.channels)),
        has_holes=node.dtype.kind == "f" or layout.nodata is not None or missing != 0,
        provenance=image.provenance,
    )


def create_sink(path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> ZarrSink | RemoteZarrSink:
    """A new store at a path or a URL; `options` are those of `Storage.with_options`.

    Raises:
        GeomedsrError: an option cannot be.
        OutputError: the parent is missing or read-only, or something else than a zarr store is in the way.
    """
    if Place(path).is_remote:
        check_options(path, spec, options or {})
        return RemoteZarrSink(path, spec, options or {})
    if path.is_dir() and any(path.iterdir()) and read_node(path) is None:
        raise OutputError(f"{path} is a folder and no zarr store; it is not replaced. Choose another output.")
    check_options(path, spec, options or {})
    return ZarrSink(path, spec, options or {})


def check_options(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
    """Refuses options that `create_sink` would, without touching the disk.

    Raises:
        GeomedsrError: an unknown option, or a value that cannot be.
    """
    design(path, spec, options)


class ZarrSink:
    """A new store, written in boxes into a folder beside the target that takes its place at the end."""

    def __init__(self, path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
        self._written = 0
        self._witness = Witness(path)
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
        self._witness.saw(box, self._output.write(box, voxels))
        self._written += box.size

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The store appears at the target, complete and seen by `verify`, instead of what was there.

        Raises:
            WriteFailedError: voxels are missing, or the disk is full.
        """
        self._staging.check_complete(self._written, self.spec.grid.shape)
        self._output.finish()
        self._staging.publish(checks=(self._check, *([verify] if verify else [])))

    def _check(self, staged: Path) -> None:
        """Reads all of it again."""
        try:
            self._witness.check(ZarrOutput.open(staged).read_stored)
        except (*UNREADABLE, InputError) as error:
            raise WriteFailedError(f"{self._staging.target} cannot be read as it was written: {error}.") from error

    def abort(self) -> None:
        """Nothing appears."""
        self._store.end()
        self._staging.discard()
