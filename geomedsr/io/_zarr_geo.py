"""Rasters with a place on earth, as zarr's conventions have it: read from any of them, written in all of them.

Read are CF (a `grid_mapping` variable with `crs_wkt` and `GeoTransform`, and one-dimensional coordinates of pixel
centres), the conventions `proj:` and `spatial:` on an array or its group, `proj:epsg` and `proj:transform` as EOPF
products have them, and GDAL's `_CRS`. Where two of them contradict each other, the raster is refused: nobody could tell
which is right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Grid, Shape
from geomedsr.io._zarr_crs import authority_code, crs_units, full_wkt, grid_mapping_name, is_same_crs
from geomedsr.io._zarr_node import Node

__all__ = ["MAPPING", "coordinate_attributes", "finest_first", "mapping_attributes", "place_attributes", "place_of"]

MAPPING = "spatial_ref"
"""The name of the grid mapping variable, as rioxarray, odc-geo and GDAL call it."""

_TOLERANCE = 0.2
"""Voxels by which two conventions may differ: coordinates in float32 are rounded, half a voxel is a mistake."""

_X_NAMES = {"x", "lon", "longitude", "easting", "projection_x_coordinate"}
_PLACED = {"units", "standard_name", "axis"}
_LENGTHS = {"m": "m", "metre": "m", "meter": "m", "meters": "m", "metres": "m"}
_CONVENTIONS = [
    {
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
        "name": "spatial:",
        "description": "Spatial coordinate and transformation information",
    },
    {
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "schema_url": "https://raw.githubusercontent.com/zarr-experimental/geo-proj/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-experimental/geo-proj/blob/v1/README.md",
        "name": "proj:",
        "description": "Coordinate reference system information for geospatial data",
    },
]

Values = Callable[[Node], NDArray[Any]]
"""The voxels of a small array."""

Sibling = Callable[[str], Node | None]
"""The array of a name in the same group, or None."""


def place_of(array: Node, group: Node | None, names: Sequence[str], sibling: Sibling, values: Values) -> Grid | None:
    """Where a raster lies, by all conventions that tell it; None where none does.

    Raises:
        InputError: two of them contradict each other, or one is broken.
    """
    attributes = {**(_inherited(group) if group else {}), **array.attributes}
    mapping = _mapping(array, sibling)
    shape = (array.shape[-2], array.shape[-1])
    crs = _one_crs(array, list(_systems(attributes, mapping)))
    grids = dict(_grids(array, attributes, mapping, shape, names))
    told = _coordinates(array, names[-2:], sibling, values, shape, is_placed=crs is not None)
    if told is not None:
        grids["the coordinates"] = told
    if not grids:
        return None if crs is None else replace(Grid.plain(shape), crs=crs)
    return _one_grid(array, grids, crs)


def finest_first(group: Node) -> tuple[str, ...]:
    """The levels that the `multiscales` of a raster's group names, as it orders them; empty where there are none.

    Raises:
        InputError: they are broken.
    """
    told = group.attributes.get("multiscales")
    if not isinstance(told, Mapping):
        return ()
    try:
        if "layout" in told:
            return tuple(str(level["asset"]) for level in told["layout"])
        return tuple(str(level["id"]) for level in told["tile_matrix_set"]["tileMatrices"])
    except (KeyError, TypeError) as error:
        raise InputError(f"The multiscales of {group.path} are broken ({error!r}).") from error


def place_attributes(grid: Grid, names: Sequence[str]) -> dict[str, Any]:
    """The `proj:` and `spatial:` conventions for a grid, for an array as well as its group."""
    attributes: dict[str, Any] = {
        "zarr_conventions": _CONVENTIONS if grid.crs else _CONVENTIONS[:1],
        "spatial:dimensions": list(names),
        "spatial:transform": list(_transform(grid)),
        "spatial:shape": list(grid.shape),
        "spatial:bbox": [*grid.corners.min(axis=0).tolist(), *grid.corners.max(axis=0).tolist()],
        "spatial:registration": "pixel",
    }
    code = authority_code(grid.crs) if grid.crs else None
    if code is not None:
        attributes["proj:code"] = code
    elif grid.crs:
        attributes["proj:wkt2"] = full_wkt(grid.crs) or grid.crs
    return attributes


def mapping_attributes(grid: Grid) -> dict[str, Any]:
    """The attributes of CF's grid mapping variable."""
    a, b, c, d, e, f = _transform(grid)
    attributes: dict[str, Any] = {"GeoTransform": " ".join(repr(value) for value in (c, a, b, f, d, e))}
    if grid.crs:
        wkt = full_wkt(grid.crs) or grid.crs
        attributes |= {"crs_wkt": wkt, MAPPING: wkt}
        if (name := grid_mapping_name(grid.crs)) is not None:
            attributes["grid_mapping_name"] = name
    return attributes


def coordinate_attributes(grid: Grid, axis: int) -> dict[str, str]:
    """The attributes of CF's coordinates along y (axis 0) or x (axis 1)."""
    letter = "yx"[axis]
    if grid.units == "degree":
        name, units = (("latitude", "degrees_north"), ("longitude", "degrees_east"))[axis]
    else:
        name, units = f"projection_{letter}_coordinate", grid.units or "1"
    return {"standard_name": name, "units": units, "axis": letter.upper()}


def _transform(grid: Grid) -> tuple[float, ...]:
    """The six numbers of an affine transform, columns before rows."""
    (b, a, c), (e, d, f), _ = grid.affine
    return a, b, c, d, e, f


def _inherited(group: Node) -> dict[str, Any]:
    """What an array has from its group, where it does not say otherwise."""
    return {key: value for key, value in group.attributes.items() if key.startswith(("proj:", "spatial:"))}


def _mapping(array: Node, sibling: Sibling) -> Node | None:
    named = array.attributes.get("grid_mapping")
    if not isinstance(named, str) or not named.strip():
        return sibling(MAPPING)
    name = named.split()[0].rstrip(":")
    found = sibling(name)
    if found is None:
        raise InputError(f"{array.path} names the grid mapping '{name}', and there is none beside it.")
    return found


def _systems(attributes: Mapping[str, Any], mapping: Node | None) -> Iterator[tuple[str, str]]:
    """Each convention that tells a CRS, and what it tells."""
    for key in ("crs_wkt", "spatial_ref") if mapping else ():
        if mapping is not None and isinstance(text := mapping.attributes.get(key), str) and text.strip():
            yield f"the {key} of {mapping.path.name}", text
    for key in ("proj:code", "proj:wkt2"):
        if isinstance(text := attributes.get(key), str) and text.strip():
            yield key, text
    if isinstance(attributes.get("proj:projjson"), Mapping):
        yield "proj:projjson", json.dumps(attributes["proj:projjson"])
    if isinstance(code := attributes.get("proj:epsg"), int):
        yield "proj:epsg", f"EPSG:{code}"
    told = attributes.get("_CRS")
    if isinstance(told, Mapping) and isinstance(told.get("wkt"), str):
        yield "_CRS", told["wkt"]


def _one_crs(array: Node, systems: Sequence[tuple[str, str]]) -> str | None:
    for name, text in systems:
        if full_wkt(text) is None:
            raise InputError(f"{array.path} has a CRS that is none known here, by {name}: '{text:.80}'.")
    for name, text in systems[1:]:
        if not is_same_crs(systems[0][1], text):
            raise InputError(
                f"{array.path} has the CRS {_short(systems[0][1])} by {systems[0][0]} and {_short(text)} by {name}: "
                "they contradict each other; remove the wrong one."
            )
    return full_wkt(systems[0][1]) if systems else None


def _short(text: str) -> str:
    return authority_code(text) or f"'{text:.40}'"


def _grids(
    array: Node, attributes: Mapping[str, Any], mapping: Node | None, shape: Shape, names: Sequence[str]
) -> Iterator[tuple[str, Grid]]:
    """Each convention that tells a transform, and the grid by it."""
    is_turned = names[-2].lower() in _X_NAMES
    told = {
        f"the GeoTransform of {mapping.path.name}" if mapping else "": _geotransform(mapping),
        "spatial:transform": attributes.get("spatial:transform"),
        "proj:transform": attributes.get("proj:transform"),
    }
    for name, numbers in told.items():
        if numbers is None:
            continue
        try:
            a, b, c, d, e, f = (float(value) for value in numbers[:6])
            columns = [[a, b, c], [d, e, f], [0, 0, 1]] if is_turned else [[b, a, c], [e, d, f], [0, 0, 1]]
            yield name, Grid.of(shape, np.array(columns, dtype=np.float64))
        except (TypeError, ValueError, GridError) as error:
            raise InputError(f"{array.path} has no place by {name}, which is {numbers!r:.80} ({error}).") from error


def _geotransform(mapping: Node | None) -> list[Any] | None:
    told = mapping.attributes.get("GeoTransform") if mapping else None
    if told is None:
        return None
    numbers = told.split() if isinstance(told, str) else list(told) if isinstance(told, list | tuple) else []
    if len(numbers) != 6:
        return [told]
    c, a, b, f, d, e = numbers
    return [a, b, c, d, e, f]


def _coordinates(
    array: Node, names: Sequence[str], sibling: Sibling, values: Values, shape: Shape, *, is_placed: bool
) -> Grid | None:
    """The grid by one-dimensional coordinates of voxel centres, or None where there are none that tell a place."""
    found = [sibling(name) for name in names]
    if any(node is None or node.shape != (n,) or n < 2 for node, n in zip(found, shape, strict=True)):
        return None
    nodes = [node for node in found if node is not None]
    if not is_placed and not any(_PLACED & set(node.attributes) for node in nodes):
        return None
    steps, first = [], []
    for node in nodes:
        numbers = values(node).astype(np.float64)
        step = float(numbers[-1] - numbers[0]) / (len(numbers) - 1)
        bent = np.abs(numbers - (numbers[0] + step * np.arange(len(numbers)))).max()
        if not (math.isfinite(step) and step and bent <= _TOLERANCE * abs(step)):
            if not is_placed:
                return None
            raise InputError(f"{node.path} is not evenly spaced, and {array.path} lies on it; resample it first.")
        steps.append(step)
        first.append(float(numbers[0]))
    rows = (0, 1) if names[0].lower() in _X_NAMES else (1, 0)
    return Grid.from_steps(shape, rows, steps, first, _unit_of(nodes[0]))


def _unit_of(coordinate: Node) -> str:
    told = str(coordinate.attributes.get("units", ""))
    return "degree" if told.startswith("degree") else _LENGTHS.get(told, "")


def _one_grid(array: Node, grids: Mapping[str, Grid], crs: str | None) -> Grid:
    (first, grid), *others = grids.items()
    for name, other in others:
        if not grid.same_place(replace(other, crs=grid.crs), _TOLERANCE):
            raise InputError(
                f"{array.path} begins at {_corner(grid)} by {first} and at {_corner(other)} by {name}: they contradict "
                "each other; remove the wrong one."
            )
    units = crs_units(crs) if crs else next((grid.units for grid in grids.values() if grid.units), "")
    return replace(grid, crs=crs, units=units)


def _corner(grid: Grid) -> str:
    x, y = grid.world((0, 0))
    return f"({x:.10g}, {y:.10g}) with voxels of {' x '.join(f'{value:.6g}' for value in grid.spacing)}"
