"""The design of an OME-Zarr store: the levels of a pyramid, and a NIfTI header for what NGFF cannot tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from geomedsr.grid import Factor, Grid, Shape
from geomedsr.image import ImageSpec
from geomedsr.io import _zarr_ngff as ngff
from geomedsr.io._nifti_header import NiftiHeader
from geomedsr.io._zarr_layout import NOTE, noted
from geomedsr.io._zarr_nifti import ARRAY, header_for, header_voxels
from geomedsr.io._zarr_nifti import KEY as NIFTI
from geomedsr.io._zarr_parts import (
    ArrayDesign,
    Design,
    Remembered,
    dimensions,
    group_attributes,
    image_array,
    layout_for,
)
from geomedsr.io._zarr_storage import Storage

__all__ = ["ome_design"]

_SMALLEST_LEVEL = {2: 512, 3: 64}
"""Voxels on the longest axis of the coarsest level, at most."""


def ome_design(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """A group with the levels of a pyramid, and a NIfTI header for what NGFF cannot tell."""
    storage = replace(storage, separator=None)  # NGFF has "/", whatever the source had
    header = header_for(spec, path) if spec.grid.ndim == 3 else None
    outer, lead = _ome_lead(spec, before)
    axes = (*outer, *ngff.space_axes(spec.grid.ndim, spec.grid.units))
    order = (2, 1, 0) if spec.grid.ndim == 3 else ()
    layout = layout_for(spec, lead, tuple(axis.name for axis in axes), order)
    factors = list(_pyramid(spec.grid))
    grids = [spec.grid.binned(factor) for factor in factors]
    images = [
        image_array(spec, _of_level(storage, grid.shape), replace(layout, grid=grid), str(index), before, {})
        for index, grid in enumerate(grids)
    ]
    version = ngff.version_of(storage.zarr_format)
    told = ngff.multiscales_written(version, axes, grids, _base(spec, before), path.name, _frame_step(spec))
    omero = _omero(spec, before)
    told.get("ome", told)["omero"] = omero
    group = {**group_attributes(before), **told, NOTE: noted(spec, complete=False)}
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
    told = dimensions(storage, "byte")
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
