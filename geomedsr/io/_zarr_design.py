"""How an output store is laid out: which arrays it has, how they are stored, and what their attributes say.

The layout is the source's own where that is a zarr store: an array without a convention becomes one. Of other images, a
raster with a CRS becomes a group in the conventions of GeoZarr and CF, a medical image (from NIfTI, or a volume with
units) OME-Zarr, and what has no place in the world a single array. The option `layout` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from geomedsr.errors import GeomedsrError, OutputError
from geomedsr.image import ImageSpec
from geomedsr.io._coding import nodata_without_mask, with_one_scaling
from geomedsr.io._zarr_design_geo import geo_design
from geomedsr.io._zarr_design_ome import ome_design
from geomedsr.io._zarr_layout import NOTE, noted
from geomedsr.io._zarr_nifti import KEY as NIFTI
from geomedsr.io._zarr_parts import (
    KEY,
    ArrayDesign,
    Design,
    Remembered,
    axis_names,
    image_array,
    layout_for,
    lead_of,
    still_true,
)
from geomedsr.io._zarr_storage import Storage

__all__ = ["KEY", "ArrayDesign", "Design", "Remembered", "design", "target_spec"]

_AXIS_NAMES = {2: ("y", "x"), 3: ("x", "y", "z")}


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
    build = {"plain": _plain, "geo": geo_design, "ome": ome_design}[kind]
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


def _plain(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """One array at the root, with the source's attributes that are still true."""
    lead = lead_of(spec, before)
    names = before.layout.names if before is not None and lead == before.layout.lead else None
    names = names or axis_names(lead, _AXIS_NAMES[spec.grid.ndim], "channel")
    order = before.layout.order if before is not None and before.image.kind == "plain" else ()
    layout = layout_for(spec, lead, names, order)
    attributes = {**still_true(spec, before), NOTE: noted(spec, complete=False)}
    return Design(spec, storage, layout, (image_array(spec, storage, layout, "", before, attributes),))
