"""What the designs of all layouts share: the values that a design is made of, and what is kept of a source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Shape
from geomedsr.image import ImageSpec
from geomedsr.io._coding import PLAIN, Coding
from geomedsr.io._zarr_image import ZarrImage
from geomedsr.io._zarr_layout import NOTE, Layout, fill_attribute, number
from geomedsr.io._zarr_storage import Storage

__all__ = [
    "KEY",
    "ArrayDesign",
    "Design",
    "Remembered",
    "axis_names",
    "dimensions",
    "group_attributes",
    "image_array",
    "layout_for",
    "lead_of",
    "still_true",
]

KEY = "zarr_archive"
"""Under which an `ImageSpec.extra` has what is remembered of a zarr source."""

_OF_THE_OLD_NUMBERS = {"valid_min", "valid_max", "valid_range", "dtype"}
_WRITTEN_ANEW = {
    *("scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "_ARRAY_DIMENSIONS", "axes"),
    *("_eopf_attrs", "grid_mapping", "_CRS", "zarr_conventions", "multiscales", "omero", "ome", NOTE),
}
_OF_THE_OLD_GRID = {"GeoTransform", "multiscales", "transform", "coordinates"}
_PREFIXES = ("proj:", "spatial:")


@dataclass(frozen=True)
class Remembered:
    """What a source was, for the output that is its like."""

    image: ZarrImage
    storage: Storage

    @property
    def layout(self) -> Layout:
        """What the axes and numbers of the source's arrays mean."""
        return self.image.layout


@dataclass(frozen=True)
class ArrayDesign:
    """An array to be made: below the root at `name` ("" is the root itself), with `voxels` where they are known."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    attributes: Mapping[str, Any]
    chunks: Shape
    shards: Shape | None = None
    fill_value: Any = None
    voxels: NDArray[Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Design:
    """A store to be made; `images` are one array or one for each channel, `levels` the coarser ones of the pyramid."""

    spec: ImageSpec
    storage: Storage
    layout: Layout
    images: tuple[ArrayDesign, ...]
    levels: tuple[ArrayDesign, ...] = ()
    beside: tuple[ArrayDesign, ...] = ()
    group: Mapping[str, Any] | None = None


def lead_of(spec: ImageSpec, before: Remembered | None) -> Shape:
    """The channel axes of the output: those of the source while it has all its channels, else one, or none for one."""
    if before is not None and math.prod(before.layout.lead) == len(spec.channels):
        return before.layout.lead
    return (len(spec.channels),) if len(spec.channels) > 1 else ()


def axis_names(lead: Shape, space: tuple[str, ...], channel: str) -> tuple[str, ...]:
    return (*(f"{channel}_{i}" if len(lead) > 1 else channel for i in range(len(lead))), *space)


def image_array(
    spec: ImageSpec, storage: Storage, layout: Layout, name: str, before: Remembered | None, attributes: dict[str, Any]
) -> ArrayDesign:
    """The array that holds the image, or one level of it: of `layout.grid.shape`."""
    assert storage.chunks is not None, "fitted() comes first"
    assert layout.names is not None, "an output names its axes"
    ones, shards = (1,) * len(layout.lead), storage.shards
    told = dimensions(storage, *layout.names) | _numbers(spec, storage) | attributes
    return ArrayDesign(
        name,
        (*layout.lead, *layout.stored(layout.grid.shape)),
        spec.dtype,
        layout.names,
        told,
        (*ones, *layout.stored(storage.chunks)),
        None if shards is None else (*ones, *layout.stored(shards)),
        _fill_value(spec, storage, before),
    )


def layout_for(spec: ImageSpec, lead: Shape, names: tuple[str, ...], order: tuple[int, ...] = ()) -> Layout:
    scaling = spec.scaling[0] if spec.scaling else PLAIN
    return Layout(lead, names, spec.grid, spec.channels, spec.nodata, scaling, order)


def dimensions(storage: Storage, *names: str) -> dict[str, Any]:
    """The names of axes as xarray has them in format 2."""
    return {"_ARRAY_DIMENSIONS": list(names)} if storage.zarr_format == 2 else {}


def _numbers(spec: ImageSpec, storage: Storage) -> dict[str, Any]:
    """What xarray looks for: which number is invalid, and what the numbers stand for."""
    told: dict[str, Any] = {}
    if spec.nodata is not None and storage.zarr_format == 3:
        told["_FillValue"] = fill_attribute(spec.nodata, spec.dtype)
    if spec.scaling:
        told["scale_factor"], told["add_offset"] = spec.scaling[0].slope, spec.scaling[0].intercept
    return told


def still_true(spec: ImageSpec, before: Remembered | None, index: int = 0) -> dict[str, Any]:
    """The attributes of a source's array that are true of the output's."""
    if before is None:
        return {}
    stale = _WRITTEN_ANEW
    if before.image.array.dtype != spec.dtype:
        stale = stale | _OF_THE_OLD_NUMBERS
    if before.layout.grid != spec.grid:
        stale = stale | _OF_THE_OLD_GRID
    chosen = cast(Sequence[int], spec.extra.get("channels", tuple(range(len(spec.channels)))))
    arrays = before.image.arrays
    source = arrays[chosen[index]] if len(arrays) > 1 and index < len(chosen) else arrays[0]
    kept = {key: value for key, value in source.attributes.items() if key not in stale}
    if isinstance(kept.get("long_name"), list):
        del kept["long_name"]  # the names of bands, which are told anew
    return {key: value for key, value in kept.items() if not key.startswith(_PREFIXES)}


def group_attributes(before: Remembered | None) -> dict[str, Any]:
    """The attributes of the source's group, where the image is all that the group is about."""
    group = before.image.group if before is not None else None
    if group is None or before is None or group.path != before.image.path:
        return {}
    kept = {key: value for key, value in group.attributes.items() if key not in _WRITTEN_ANEW | _OF_THE_OLD_GRID}
    return {key: value for key, value in kept.items() if not key.startswith(_PREFIXES)}


def _fill_value(spec: ImageSpec, storage: Storage, before: Remembered | None) -> Any:  # noqa: ANN401 - of any dtype
    """What a chunk reads as that was never written: invalid where the numbers can say so.

    In format 2, with names of axes, every fill value means "invalid" to xarray and GDAL: there is none without nodata.
    """
    value = spec.nodata
    if value is None and storage.zarr_format == 2:
        return None
    if value is None and before is not None and before.image.array.dtype == spec.dtype:
        value = number(before.image.array.fill_value)
    return Coding(spec.dtype).store(np.array([np.nan if value is None else value]))[0]
