"""The design of a raster's store: the array, its coordinates and its grid mapping, in all conventions at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.grid import Grid, Shape
from geomedsr.image import ImageSpec
from geomedsr.io import _zarr_geo as geo
from geomedsr.io._zarr_codecs import small_array
from geomedsr.io._zarr_layout import NOTE, Layout, noted
from geomedsr.io._zarr_node import read_node
from geomedsr.io._zarr_parts import (
    ArrayDesign,
    Design,
    Remembered,
    axis_names,
    dimensions,
    group_attributes,
    image_array,
    layout_for,
    lead_of,
    still_true,
)
from geomedsr.io._zarr_storage import Storage

__all__ = ["geo_design"]


def geo_design(path: Path, spec: ImageSpec, storage: Storage, before: Remembered | None) -> Design:
    """A group with the raster, its coordinates and its grid mapping; one array for each channel if the source had."""
    parts = len(before.image.arrays) if before is not None and before.image.kind == "geo" else 1
    lead = () if parts > 1 and not storage.together else lead_of(spec, before)
    space = before.layout.names[-2:] if before and before.image.kind == "geo" and before.layout.names else ("y", "x")
    is_kept = before is not None and lead == before.layout.lead and before.layout.names is not None
    names = before.layout.names if is_kept and before is not None else None
    layout = layout_for(spec, lead, names or axis_names(lead, space, "band"))
    place = geo.place_attributes(spec.grid, space)
    told = {"grid_mapping": geo.MAPPING, **place}
    if spec.grid.crs:
        told["_CRS"] = {"wkt": spec.grid.crs}  # what GDAL looks for first
    images = tuple(
        image_array(spec, storage, layout, name, before, {**still_true(spec, before, index), **told, **long_name})
        for index, (name, long_name) in enumerate(_parts(path, spec, storage, before, parts, lead))
    )
    group = {**group_attributes(before), **place, NOTE: noted(spec, complete=False)}
    beside = (*_coordinates(spec.grid, space, storage), *_carried(before, layout, storage))
    return Design(spec, storage, layout, images, (), beside, group)


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
    attributes = {**geo.mapping_attributes(grid), **dimensions(storage)}
    made = [ArrayDesign(geo.MAPPING, (), scalar.dtype, (), attributes, (), None, fill, scalar)]
    if grid.steps((1, 0)) is None:
        return tuple(made)
    for axis, name in enumerate(names):
        centres = grid.centres(axis)
        told = {**geo.coordinate_attributes(grid, axis), **dimensions(storage, name)}
        made.append(ArrayDesign(name, centres.shape, centres.dtype, (name,), told, centres.shape, None, fill, centres))
    return tuple(made)


def _carried(before: Remembered | None, layout: Layout, storage: Storage) -> Iterator[ArrayDesign]:
    """The source's coordinates along the axes of channels (its times, say), where the output has all of them."""
    group = before.image.group if before is not None else None
    if before is None or group is None or layout.lead != before.layout.lead or layout.names != before.layout.names:
        return
    for name, count in zip(layout.names or (), layout.lead, strict=False):
        node = read_node(group.path / name) if "/" not in name and name not in ("..", "") else None
        if node is None or node.shape != (count,) or node.refusal is not None or node.path.is_symlink():
            continue
        voxels, fill = small_array(node), None if storage.zarr_format == 2 else 0
        kept = {key: value for key, value in node.attributes.items() if key != "_ARRAY_DIMENSIONS"}
        told = {**kept, **dimensions(storage, name)}
        yield ArrayDesign(name, voxels.shape, voxels.dtype, (name,), told, voxels.shape, None, fill, voxels)
