"""What the axes and numbers of a zarr array mean: which are space, which are channels, where it lies, what is invalid.

A convention is a function from an array's metadata to a `Layout`, or None where the array does not follow it; the
first of `CONVENTIONS` that answers decides. The rules of the last, for an array without any convention:

- Axes have names by `dimension_names` (format 3), `_ARRAY_DIMENSIONS` (xarray) or an attribute `axes`. An axis named
  like a channel (c, band, channel, frame, t, time, wavelength and their plurals) is one, any other is space.
- Without names, leading axes of length 1 count as channels; of what is left, two axes are space, and so are three
  unless the first is at most 16 long and a quarter of the others or less, which makes it the channels; of four
  axes the first is the channels.
- Channels lead. Several channel axes (time and band) become one, the last fastest.
- Invalid are NaN and the number in the attribute `_FillValue`, `missing_value` or `nodata`; in format 2 also the
  array's fill value if xarray or GDAL wrote it (it has `_ARRAY_DIMENSIONS`), as both mean it so. A fill value alone
  says nothing: it is 0 by default, and 0 is a good voxel. So a chunk that was never written reads as the fill value.
- `scale_factor` and `add_offset` (CF) turn stored numbers into physical ones.
- The grid is plain: spacing 1, origin 0.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Grid, Shape
from geomedsr.image import ImageSpec, Scaling
from geomedsr.io._coding import PLAIN
from geomedsr.io._zarr_node import Node

__all__ = ["CONVENTIONS", "NOTE", "Layout", "fill_attribute", "layout_of", "looks_like_image", "note", "number"]

NOTE = "geomedsr"
"""The attribute in which a sink notes grid, channels and nodata, so that the round trip is exact."""

_CHANNEL_NAMES = {"c", "ch", "band", "channel", "frame", "t", "time", "wavelength"}
_MOST_UNNAMED_CHANNELS = 16
_SHORTEST_IMAGE = 4


@dataclass(frozen=True)
class Layout:
    """The meaning of an array: `lead` are the lengths of its channel axes, the rest is space."""

    lead: Shape
    names: tuple[str, ...] | None
    grid: Grid
    channels: tuple[str, ...]
    nodata: float | None = None
    scaling: Scaling = PLAIN


Convention = Callable[[Node], Layout | None]


def layout_of(node: Node) -> Layout:
    """The meaning of an array, by the first convention that it follows.

    Raises:
        InputError: it follows none, or one wrongly.
    """
    layouts = (convention(node) for convention in CONVENTIONS)
    return next(layout for layout in layouts if layout is not None)


def looks_like_image(node: Node) -> bool:
    """Whether an array has two or three axes of space, at least two of them longer than a coordinate's bounds."""
    if not node.is_array or node.refusal is not None:
        return False
    try:
        shape = layout_of(node).grid.shape
    except InputError:
        return False
    return sum(length >= _SHORTEST_IMAGE for length in shape) >= 2


def note(spec: ImageSpec) -> dict[str, Any]:
    """What `_noted` reads back."""
    nodata = None if spec.nodata is None else _json_number(spec.nodata)
    return {"grid": spec.grid.to_json(), "channels": list(spec.channels), "nodata": nodata}


def fill_attribute(nodata: float, dtype: np.dtype[Any]) -> int | str:
    """`_FillValue` as xarray writes it in format 3: a whole number as it is, a real one as base64."""
    return base64.b64encode(struct.pack("<d", nodata)).decode() if dtype.kind == "f" else int(nodata)


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def _noted(node: Node) -> Layout | None:
    """The layout of an array that geomedsr wrote."""
    written = node.attributes.get(NOTE)
    if not isinstance(written, Mapping) or "grid" not in written:
        return None
    try:
        grid = Grid.from_json(dict(written["grid"]))
        channels = tuple(str(name) for name in written["channels"])
        nodata = None if written["nodata"] is None else float(written["nodata"])
    except (GridError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The attribute '{NOTE}' of {node.path} is broken ({error}); remove it.") from error
    lead = node.shape[: -grid.ndim]
    if node.shape[-grid.ndim :] != grid.shape or math.prod(lead) != len(channels):
        raise InputError(
            f"{node.path} has the shape {node.shape}, but its attribute '{NOTE}' tells of {len(channels)} x "
            f"{grid.shape}: the array was changed since. Correct or remove the attribute."
        )
    return Layout(lead, _names(node), grid, channels, nodata, _scaling(node))


def _plain(node: Node) -> Layout:
    """The layout of an array without a convention, by the rules at the top."""
    names = _names(node)
    is_channel = _channel_axes(node, names)
    count = sum(is_channel)
    if any(is_channel[count:]):
        raise InputError(
            f"{node.path} has the axes {', '.join(names or ())}: channels come first, then space; transpose it."
        )
    lead, space = node.shape[:count], node.shape[count:]
    if len(space) not in (2, 3):
        axes = f"named {', '.join(names)}" if names else f"of {node.shape}"
        raise InputError(f"{node.path} has the axes {axes}: an image has 2 or 3 of space; name its axes.")
    return Layout(lead, names, Grid.plain(space), _channels(node, lead), _nodata(node), _scaling(node))


def _names(node: Node) -> tuple[str, ...] | None:
    """The names of the axes, or None where there are none that say anything."""
    axes = node.attributes.get("axes")
    named = node.dimension_names or node.attributes.get("_ARRAY_DIMENSIONS") or axes
    if not isinstance(named, list | tuple) or len(named) != len(node.shape):
        return None
    names = [axis.get("name") if isinstance(axis, Mapping) else axis for axis in named]
    texts = tuple(name for name in names if isinstance(name, str) and not name.startswith("dim_"))
    return texts if len(texts) == len(node.shape) else None


def _channel_axes(node: Node, names: Sequence[str] | None) -> list[bool]:
    """For each axis, whether it is one of channels."""
    if names is not None:
        return [name.lower() in _CHANNEL_NAMES or name.lower().rstrip("s") in _CHANNEL_NAMES for name in names]
    shape, count = node.shape, 0
    while count < len(shape) - 2 and shape[count] == 1:
        count += 1
    left = shape[count:]
    if len(left) == 4 or (len(left) == 3 and left[0] <= _MOST_UNNAMED_CHANNELS and left[0] * 4 <= min(left[1:])):
        count += 1
    return [axis < count for axis in range(len(shape))]


def _channels(node: Node, lead: Shape) -> tuple[str, ...]:
    """Names for the channels: an array of one inside a group is called what the array is called."""
    count = math.prod(lead)
    inside = node.path.suffix.lower() != ".zarr"
    return (node.path.name,) if count == 1 and inside else tuple(f"channel {i + 1}" for i in range(count))


def _scaling(node: Node) -> Scaling:
    values = node.attributes.get("scale_factor", 1.0), node.attributes.get("add_offset", 0.0)
    try:
        scale, offset = (float(np.ravel(value)[0]) for value in values)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{node.path} has the scale and offset {values}, which are not numbers.") from error
    if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
        raise InputError(f"{node.path} has the scale {scale} and offset {offset}, which give no voxels.")
    return Scaling(scale, offset)


def _nodata(node: Node) -> float | None:
    """The stored number that means "invalid", or None."""
    for key in ("_FillValue", "missing_value", "nodata"):
        if node.attributes.get(key) is not None:
            return number(node.attributes[key])
    means_it = node.zarr_format == 2 and "_ARRAY_DIMENSIONS" in node.attributes
    filled = number(node.fill_value)
    return filled if means_it or (filled is not None and math.isnan(filled)) else None


def number(value: object) -> float | None:
    """A number from JSON: plain, as text ("NaN"), or a double in base64 as xarray writes it; None if it is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and len(value) == 12 and value.endswith("="):
        try:
            return float(struct.unpack("<d", base64.b64decode(value, validate=True))[0])
        except ValueError:
            return None
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


CONVENTIONS: tuple[Convention, ...] = (_noted, _plain)
"""Asked in this order; a new one goes before the last, which answers always."""
