"""How an output store is laid out: which arrays it has, how they are stored, and what their attributes say.

The layout is the source's own where that is a zarr store: an array without a convention becomes one. Of other images, a
raster with a CRS becomes a group in the conventions of GeoZarr and CF, a medical image (from NIfTI, or a volume with
units) OME-Zarr, and what has no place in the world a single array. The option `layout` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GeomedsrError, OutputError
from geomedsr.grid import Factor, Grid, Shape
from geomedsr.image import ImageSpec
from geomedsr.io import _zarr_geo as geo
from geomedsr.io import _zarr_ngff as ngff
from geomedsr.io._coding import PLAIN, Coding, nodata_without_mask, with_one_scaling
from geomedsr.io._nifti_header import NiftiHeader
from geomedsr.io._zarr_image import ZarrImage
from geomedsr.io._zarr_layout import NOTE, Layout, fill_attribute, noted, number
from geomedsr.io._zarr_nifti import ARRAY, header_for, header_voxels
from geomedsr.io._zarr_nifti import KEY as NIFTI
from geomedsr.io._zarr_storage import Storage

__all__ = ["KEY", "ArrayDesign", "Design", "Remembered", "design", "target_spec"]

KEY = "zarr_archive"
"""Under which an `ImageSpec.extra` has what is remembered of a zarr source."""

_AXIS_NAMES = {2: ("y", "x"), 3: ("x", "y", "z")}
_OF_THE_OLD_NUMBERS = {"valid_min", "valid_max", "valid_range", "dtype"}
_WRITTEN_ANEW = {
    *("scale_factor", "add_offset", "_FillValue", "missing_value", "nodata", "_ARRAY_DIMENSIONS", "axes"),
    *("_eopf_attrs", "grid_mapping", "_CRS", "zarr_conventions", "multiscales", "omero", "ome", NOTE),
}
_OF_THE_OLD_GRID = {"GeoTransform", "multiscales", "transform", "coordinates"}
_PREFIXES = ("proj:", "spatial:")
_SMALLEST_LEVEL = {2: 512, 3: 64}
"""Voxels on the longest axis of the coarsest level, at most."""


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


def target_spec(path: Path, spec: ImageSpec) -> ImageSpec:
    """What will be read back from a store of this image; of channels that are scaled differently, float32.

    Raises:
        OutputError: zarr has no place for such voxels.
    """
    if spec.dtype.kind not in "biuf" or spec.dtype.itemsize > 8:
        raise OutputError(f"{path.name} would hold whole or real numbers of up to 64 bits, not {spec.dtype}.")
    spec = with_one_scaling(spec)
    return replace(spec, nodata=nodata_without_mask(spec))


def design(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> Design:
    """The store for an image, its spec's chunks one stored object.

    Raises:
        GeomedsrError: an option is unknown, or a value cannot be.
        OutputError: zarr has no place for such voxels.
    """
    spec = target_spec(path, spec)
    before = _remembered(spec)
    storage = (before.storage if before else Storage()).with_options(options)
    storage = storage.fitted(spec.grid.shape, spec.dtype.itemsize)
    spec = replace(spec, chunks=storage.block)
    kind = storage.layout or _kind(spec, before)
    if kind == "geo" and spec.grid.ndim != 2:
        raise GeomedsrError(f"The layout geo is for rasters of 2 axes; {path.name} would have {spec.grid.ndim}.")
    build = {"plain": _plain, "geo": _geo, "ome": _ome}[kind]
    return build(path, spec, storage, before)


def _remembered(spec: ImageSpec) -> Remembered | None:
    """What is remembered of the source, if the output has its axes."""
    before = spec.extra.get(KEY)
    return before if isinstance(before, Remembered) and before.layout.grid.ndim == spec.grid.ndim else None


def _kind(spec: ImageSpec, before: Remembered | None) -> str:
    if spec.grid.ndim == 2 and spec.grid.crs is not None:
        return "geo"
    if before is not None:
        return before.image.kind
    is_medical = NIFTI in spec.extra or (spec.grid.ndim == 3 and bool(spec.grid.units))
    return "ome" if is_medical else "plain"


def _lead(spec: ImageSpec, before: Remembered | None) -> Shape:
    """The channel axes of the output: those of the source while it has all its channels, else one, or none for one."""
    if before is not None and math.prod(before.layout.lead) == len(spec.channels):
        return before.layout.lead
    return (len(spec.channels),) if len(spec.channels) > 1 else ()


def _axis_names(lead: Shape, space: tuple[str, ...], channel: str) -> tuple[str, ...]:
    return (*(f"{channel}_{i}" if len(lead) > 1 else channel for i in range(len(lead))), *space)


def _image_array(
    spec: ImageSpec, storage: Storage, layout: Layout, name: str, before: Remembered | None, attributes: dict[str, Any]
) -> ArrayDesign:
    """The array that holds the image, or one level of it: of `layout.grid.shape`."""
    assert storage.chunks is not None, "fitted() comes first"
    assert layout.names is not None, "an output names its axes"
    ones, shards = (1,) * len(layout.lead), storage.shards
    told = _dimensions(storage, *layout.names) | _numbers(spec, storage) | attributes
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


def _plain(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """One array at the root, with the source's attributes that are still true."""
    lead = _lead(spec, before)
    names = before.layout.names if before is not None and lead == before.layout.lead else None
    names = names or _axis_names(lead, _AXIS_NAMES[spec.grid.ndim], "channel")
    order = before.layout.order if before is not None and before.image.kind == "plain" else ()
    layout = _layout(spec, lead, names, order)
    attributes = {**_still_true(spec, before), NOTE: noted(spec, complete=False)}
    return Design(spec, storage, layout, (_image_array(spec, storage, layout, "", before, attributes),))


def _geo(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """A group with the raster, its coordinates and its grid mapping; one array for each channel if the source had."""
    parts = len(before.image.arrays) if before is not None and before.image.kind == "geo" else 1
    lead = () if parts > 1 and not storage.together else _lead(spec, before)
    space = before.layout.names[-2:] if before and before.image.kind == "geo" and before.layout.names else ("y", "x")
    is_kept = before is not None and lead == before.layout.lead and before.layout.names is not None
    names = before.layout.names if is_kept and before is not None else None
    layout = _layout(spec, lead, names or _axis_names(lead, space, "band"))
    place = geo.place_attributes(spec.grid, space)
    told = {"grid_mapping": geo.MAPPING, **place}
    if spec.grid.crs:
        told["_CRS"] = {"wkt": spec.grid.crs}  # what GDAL looks for first
    images = tuple(
        _image_array(spec, storage, layout, name, before, {**_still_true(spec, before, index), **told, **long_name})
        for index, (name, long_name) in enumerate(_parts(path, spec, storage, before, parts, lead))
    )
    group = {**_group_attributes(before), **place, NOTE: noted(spec, complete=False)}
    return Design(spec, storage, layout, images, (), _coordinates(spec.grid, space, storage), group)


def _parts(
    path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None, parts: int, lead: Shape
) -> list[tuple[str, dict[str, Any]]]:
    """The name of each array of a raster, and the names of its bands as rioxarray has them."""
    if parts > 1 and not storage.together:
        return [(name, {}) for name in spec.channels]
    name = before.image.array.path.name if before is not None and parts == 1 and before.image.kind == "geo" else "image"
    name = name.removesuffix(".zarr") if name.endswith(".zarr") else name
    return [(name or "image", {"long_name": list(spec.channels)} if lead else {})]


def _coordinates(grid: Grid, names: Sequence[str], storage: Storage) -> tuple[ArrayDesign, ...]:
    """The grid mapping, and the coordinates where the axes run along the world's."""
    fill = None if storage.zarr_format == 2 else 0
    scalar = np.zeros((), np.int64)
    attributes = {**geo.mapping_attributes(grid), **_dimensions(storage)}
    made = [ArrayDesign(geo.MAPPING, (), scalar.dtype, (), attributes, (), None, fill, scalar)]
    if grid.steps((1, 0)) is None:
        return tuple(made)
    for axis, name in enumerate(names):
        centres = grid.centres(axis)
        told = {**geo.coordinate_attributes(grid, axis), **_dimensions(storage, name)}
        made.append(ArrayDesign(name, centres.shape, centres.dtype, (name,), told, centres.shape, None, fill, centres))
    return tuple(made)


def _ome(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """A group with the levels of a pyramid, and a NIfTI header for what NGFF cannot tell."""
    header = header_for(spec, path) if spec.grid.ndim == 3 else None
    outer, lead = _ome_lead(spec, before)
    axes = (*outer, *ngff.space_axes(spec.grid.ndim, spec.grid.units))
    order = (2, 1, 0) if spec.grid.ndim == 3 else ()
    layout = _layout(spec, lead, tuple(axis.name for axis in axes), order)
    factors = list(_pyramid(spec.grid))
    grids = [spec.grid.binned(factor) for factor in factors]
    images = [
        _image_array(spec, _of_level(storage, grid.shape), replace(layout, grid=grid), str(index), before, {})
        for index, grid in enumerate(grids)
    ]
    version = ngff.version_of(storage.zarr_format)
    told = ngff.multiscales_written(version, axes, grids, _base(spec, before), path.name, _frame_step(spec))
    omero = _omero(spec, before)
    told.get("ome", told)["omero"] = omero
    group = {**_group_attributes(before), **told, NOTE: noted(spec, complete=False)}
    beside = () if header is None else (_header_array(header, storage),)
    return Design(spec, storage, layout, tuple(images[:1]), tuple(images[1:]), beside, group)


def _ome_lead(spec: ImageSpec, before: Remembered | None) -> tuple[tuple[ngff.Axis, ...], Shape]:
    """The axes of time and channel: the source's where it has all its channels, else one, or none for one channel."""
    if before is not None and before.image.multiscales is not None:
        multiscales = before.image.multiscales
        if math.prod(before.layout.lead) == len(spec.channels):
            return multiscales.axes[: multiscales.lead], before.layout.lead
    if len(spec.channels) == 1:
        return (), ()
    header = spec.extra.get(NIFTI)
    is_time = isinstance(header, NiftiHeader) and header.layout.frames == len(spec.channels) > 1
    is_time = is_time and cast(NiftiHeader, header).channel_axis == 4
    axis = ngff.Axis("t", "time", "second") if is_time else ngff.Axis("c", "channel")
    return (axis,), (len(spec.channels),)


def _frame_step(spec: ImageSpec) -> float:
    """The seconds between two frames, 1 where they are unknown."""
    header = spec.extra.get(NIFTI)
    if not isinstance(header, NiftiHeader):
        return 1.0
    step, unit = float(header.fields["pixdim"][4]), int(header.fields["xyzt_units"]) & 0x38
    return step * {16: 1e-3, 24: 1e-6}.get(unit, 1.0) if math.isfinite(step) and step > 0 else 1.0


def _base(spec: ImageSpec, before: Remembered | None) -> Grid | None:
    """The grid whose first voxel is the origin of what is flipped or oblique: the source's."""
    header = spec.extra.get(NIFTI)
    if isinstance(header, NiftiHeader) and header.grid.ndim == spec.grid.ndim:
        return header.grid
    return before.layout.grid if before is not None else None


def _omero(spec: ImageSpec, before: Remembered | None) -> dict[str, Any]:
    chosen = spec.extra.get("channels", tuple(range(len(spec.channels))))
    multiscales = before.image.multiscales if before is not None else None
    return ngff.omero_written(spec.channels, multiscales.omero if multiscales else None, cast(Sequence[int], chosen))


def _header_array(header: NiftiHeader, storage: Storage) -> ArrayDesign:
    voxels = header_voxels(header)
    told = _dimensions(storage, "byte")
    fill = None if storage.zarr_format == 2 else 0
    return ArrayDesign(ARRAY, voxels.shape, voxels.dtype, ("byte",), told, voxels.shape, None, fill, voxels)


def _pyramid(grid: Grid) -> list[Factor]:
    """How much coarser each level is: halved on the axes that are finest and long, until all fits into one look."""
    factors, least = [(1,) * grid.ndim], _SMALLEST_LEVEL[grid.ndim]
    while max(grid.binned(factors[-1]).shape) > least:
        level = grid.binned(factors[-1])
        finest = min(step for step, n in zip(level.spacing, level.shape, strict=True) if n > 1)
        halved = [n > 1 and step < 2 * finest for step, n in zip(level.spacing, level.shape, strict=True)]
        factors.append(tuple(f * (1 + half) for f, half in zip(factors[-1], halved, strict=True)))
    return factors


def _of_level(storage: Storage, shape: Shape) -> Storage:
    """The same chunks for a smaller level, without shards where one would hold it all."""
    assert storage.chunks is not None, "fitted() comes first"
    chunks = tuple(min(c, n) for c, n in zip(storage.chunks, shape, strict=True))
    if storage.shards is None:
        return replace(storage, chunks=chunks)
    is_small = all(n <= s for n, s in zip(shape, storage.shards, strict=True))
    return replace(storage, chunks=chunks, shards=None) if is_small else storage


def _layout(spec: ImageSpec, lead: Shape, names: tuple[str, ...], order: tuple[int, ...] = ()) -> Layout:
    scaling = spec.scaling[0] if spec.scaling else PLAIN
    return Layout(lead, names, spec.grid, spec.channels, spec.nodata, scaling, order)


def _dimensions(storage: Storage, *names: str) -> dict[str, Any]:
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


def _still_true(spec: ImageSpec, before: Remembered | None, index: int = 0) -> dict[str, Any]:
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


def _group_attributes(before: Remembered | None) -> dict[str, Any]:
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
