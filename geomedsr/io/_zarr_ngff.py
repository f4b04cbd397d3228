"""OME-Zarr (NGFF) 0.4 and 0.5: the multiscales of a group as values, read with care and written anew.

An axis of three in space is taken in the order x, y, z, whichever way it is stored: a `zyx` array has the bytes of a
NIfTI file. Two axes keep the file's order. Transformations map voxel centres, as NIfTI's do; what they cannot hold
(flips and obliques) is told by a NIfTI header beside the image, in the form of nifti-zarr, and then they count from
the first voxel along the image's own axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Grid, Shape
from geomedsr.io._zarr_node import Node, checked_name

__all__ = [
    "Axis",
    "Level",
    "Multiscales",
    "axis_rows",
    "multiscales_of",
    "multiscales_written",
    "omero_written",
    "space_axes",
    "version_of",
]

_LETTERS = {"millimeter": "mm", "micrometer": "um", "meter": "m", "nanometer": "nm"}
_NAMES = {short: name for name, short in _LETTERS.items()}
_WORLD = ("x", "y", "z")
_VERSIONS = {"0.4": 2, "0.5": 3}
_COLOURS = ("FF0000", "00FF00", "0000FF", "FFFFFF")


@dataclass(frozen=True)
class Axis:
    """One axis of the arrays; `kind` is space, time, channel or something of its own."""

    name: str
    kind: str | None
    unit: str | None = None

    def to_json(self) -> dict[str, str]:
        """The axis as NGFF writes it."""
        told = {"name": self.name, "type": self.kind, "unit": self.unit}
        return {key: value for key, value in told.items() if value is not None}


@dataclass(frozen=True)
class Level:
    """One resolution: the array's path below the group, the distances of voxel centres, and the first."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Multiscales:
    """An image in several resolutions, finest first, and the names of its channels."""

    path: Path
    version: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    labels: tuple[str, ...] | None
    omero: Mapping[str, Any] | None
    name: str | None

    @property
    def lead(self) -> int:
        """How many axes come before those of space."""
        return sum(axis.kind != "space" for axis in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """For each axis of space as it is taken, which of the stored axes of space it is."""
        names = [axis.name.lower() for axis in self.axes[self.lead :]]
        if len(names) == 3 and set(names) == set(_WORLD):
            return tuple(names.index(letter) for letter in _WORLD)
        return tuple(range(len(names)))

    @property
    def units(self) -> str:
        """The unit of the axes of space, "" where they have none.

        Raises:
            InputError: they have several.
        """
        units = {axis.unit for axis in self.axes[self.lead :]}
        if len(units) > 1:
            raise InputError(f"{self.path} has the units {', '.join(sorted(map(str, units)))}; give space one unit.")
        unit = units.pop()
        return _LETTERS.get(unit, unit) if unit else ""

    def grid(self, level: Level, shape: Shape) -> Grid:
        """Where a level's voxels are by its transformations.

        Shape: `shape` is that of the stored axes of space.
        """
        order, lead = self.order, self.lead
        steps = [level.scale[lead + axis] for axis in order]
        first = [level.translation[lead + axis] for axis in order]
        try:
            return Grid.from_steps([shape[axis] for axis in order], axis_rows(len(order)), steps, first, self.units)
        except GridError as error:
            raise InputError(f"The transformations of {self.path} give no place: {error}") from error


def axis_rows(ndim: int) -> tuple[int, ...]:
    """Which axis of the world (x, y, z) each axis of space runs along: y and x of two, x, y and z of three."""
    return (1, 0) if ndim == 2 else (0, 1, 2)


def multiscales_of(group: Node) -> Multiscales | None:
    """The multiscales of a group, or None where it is no OME-Zarr image.

    Raises:
        InputError: they are broken, or say what cannot be.
    """
    told = group.attributes.get("ome", group.attributes)
    if not isinstance(told, Mapping) or not isinstance(told.get("multiscales"), list):
        return None
    try:
        first = told["multiscales"][0]
        version = str(told.get("version") or first.get("version") or "")
        if not isinstance(first.get("axes"), list) or not all(isinstance(axis, Mapping) for axis in first["axes"]):
            raise InputError(
                f"{group.path} is OME-Zarr of the version {version or 'unknown'} without axes; 0.4 and 0.5 are read."
            )
        axes = tuple(Axis(str(axis["name"]), axis.get("type"), axis.get("unit")) for axis in first["axes"])
        _check_axes(group.path, axes)
        outer = _transformation(group.path, first.get("coordinateTransformations") or [], len(axes))
        levels = tuple(_level(group.path, one, len(axes), outer) for one in first["datasets"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"The multiscales of {group.path} are broken ({type(error).__name__}: {error}).") from error
    if not levels:
        raise InputError(f"The multiscales of {group.path} name no dataset.")
    omero = told.get("omero") if isinstance(told.get("omero"), Mapping) else None
    return Multiscales(group.path, version, axes, levels, _labels(omero), omero, first.get("name"))


def _check_axes(path: Path, axes: Sequence[Axis]) -> None:
    spatial = [axis.kind == "space" for axis in axes]
    lead = len(axes) - sum(spatial)
    if sum(spatial) not in (2, 3) or any(spatial[:lead]):
        names = ", ".join(f"{axis.name} ({axis.kind})" for axis in axes)
        raise InputError(f"{path} has the axes {names}: an image has 2 or 3 of space, after those of time and channel.")


def _level(path: Path, told: Mapping[str, Any], ndim: int, outer: tuple[Any, Any]) -> Level:
    name = checked_name(path, told["path"])
    if not told.get("coordinateTransformations"):
        raise InputError(f"{path} has no coordinateTransformations for its dataset '{name}'; it needs a scale.")
    scale, translation = _transformation(path, told["coordinateTransformations"], ndim)
    return Level(
        name,
        tuple(a * b for a, b in zip(scale, outer[0], strict=True)),
        tuple(t * a + b for t, a, b in zip(translation, *outer, strict=True)),
    )


def _transformation(path: Path, told: Sequence[Mapping[str, Any]], ndim: int) -> tuple[Any, Any]:
    """Scale and translation of a list of transformations, one after the other."""
    scale, translation = (1.0,) * ndim, (0.0,) * ndim
    for one in told:
        kind = one.get("type")
        if kind == "identity":
            continue
        numbers = one.get(kind) if kind in ("scale", "translation") else None
        if not isinstance(numbers, list):
            raise InputError(f"{path} has a transformation of the kind '{kind}'; scale and translation are read.")
        values = tuple(float(value) for value in numbers)
        is_bad = len(values) != ndim or not all(map(math.isfinite, values)) or (kind == "scale" and min(values) <= 0)
        if is_bad:
            must = "positive and finite" if kind == "scale" else "finite"
            raise InputError(f"{path} has the {kind} {list(numbers)}; it must be {ndim} numbers, {must}.")
        if kind == "scale":
            scale = tuple(a * b for a, b in zip(scale, values, strict=True))
            translation = tuple(a * b for a, b in zip(translation, values, strict=True))
        else:
            translation = tuple(a + b for a, b in zip(translation, values, strict=True))
    return scale, translation


def _labels(omero: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    channels = omero.get("channels") if omero else None
    if not isinstance(channels, list) or not all(isinstance(one, Mapping) for one in channels):
        return None
    return tuple(str(one.get("label") or f"channel {i + 1}") for i, one in enumerate(channels))


def multiscales_written(
    version: str, axes: Sequence[Axis], grids: Sequence[Grid], base: Grid | None, name: str, steps: float = 1.0
) -> dict[str, Any]:
    """The attributes of a group whose levels `0`, `1`, ... lie on these grids.

    `base` is the grid whose first voxel is the origin where the image is flipped or oblique; `steps` is the distance
    of two frames in time.
    """
    lead = len(axes) - grids[0].ndim
    outer = [steps if axis.kind == "time" else 1.0 for axis in axes[:lead]]
    datasets = []
    for index, grid in enumerate(grids):
        scale, translation = _placed(grid, base or grids[0], grids[0])
        told = [
            {"type": "scale", "scale": [*outer, *scale]},
            {"type": "translation", "translation": [0.0] * lead + list(translation)},
        ]
        datasets.append({"path": str(index), "coordinateTransformations": told})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [axis.to_json() for axis in axes],
        "datasets": datasets,
        "type": "area mean",
    }
    if version == "0.4":
        return {"multiscales": [{"version": version, **multiscale}]}
    return {"ome": {"version": version, "multiscales": [multiscale]}}


def _placed(grid: Grid, base: Grid, finest: Grid) -> tuple[list[float], list[float]]:
    """Scale and translation in the stored order (z, y, x), which is that of the world reversed."""
    rows = axis_rows(grid.ndim)
    told = grid.steps(rows)
    is_upright = told is not None and min(told[0]) > 0
    scale, translation = told if told is not None and is_upright else grid.steps_within(base)
    order = slice(None) if grid.ndim == 2 else slice(None, None, -1)
    return list(scale[order]), list(translation[order])


def omero_written(names: Sequence[str], before: Mapping[str, Any] | None, chosen: Sequence[int]) -> dict[str, Any]:
    """The `omero` block: the source's own for the channels that are kept, with colours for new ones."""
    old = before.get("channels", []) if before else []
    channels = []
    for index, (name, source) in enumerate(zip(names, chosen, strict=True)):
        kept = dict(old[source]) if source < len(old) and isinstance(old[source], Mapping) else {}
        fresh = {"active": True, "color": _COLOURS[index] if 1 < len(names) <= 3 else _COLOURS[3]}
        channels.append({**fresh, **kept, "label": name})
    rest = {key: value for key, value in (before or {}).items() if key != "channels"}
    return {**rest, "channels": channels}


def space_axes(ndim: int, units: str) -> tuple[Axis, ...]:
    """The axes of space in the order in which they are stored."""
    unit = _NAMES.get(units, units) or None
    return tuple(Axis(name, "space", unit) for name in ("z", "y", "x")[3 - ndim :])


def version_of(zarr_format: int) -> str:
    """The version of NGFF that goes with a zarr format."""
    return next(version for version, wanted in _VERSIONS.items() if wanted == zarr_format)
