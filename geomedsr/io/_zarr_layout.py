"""What the axes and numbers of a zarr array mean: which are space, which are channels, what is invalid.

Where it lies is told by conventions that have modules of their own (`_zarr_ngff`, `_zarr_geo`). The rules for an array
that follows none:

- Axes have names by `dimension_names` (format 3), `_ARRAY_DIMENSIONS` (xarray) or an attribute `axes`. An axis named
  like a channel (c, band, channel, frame, t, time, wavelength and their plurals) is one, any other is space.
- Without names, leading axes of length 1 count as channels; of what is left, two axes are space, and so are three
  unless the first is at most 16 long and a quarter of the others or less, which makes it the channels; of four
  axes the first is the channels.
- Channels lead. Several channel axes (time and band) become one, the last fastest.
- Invalid are NaN and the number in the attribute `_FillValue`, `missing_value` or `nodata`; in format 2 also the
  array's fill value if xarray or GDAL wrote it (it has `_ARRAY_DIMENSIONS`), as both mean it so. A fill value alone
  says nothing: it is 0 by default, and 0 is a good voxel. A chunk that was never written is invalid, whatever it is.
- `scale_factor` and `add_offset` (CF) turn stored numbers into physical ones; EOPF products have them in `_eopf_attrs`.
- The grid is plain: spacing 1, origin 0.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Grid, Shape
from geomedsr.image import ImageSpec, Scaling
from geomedsr.io._coding import PLAIN
from geomedsr.io._zarr_node import Node

__all__ = [
    "NOTE",
    "Layout",
    "axis_names",
    "channel_names",
    "fill_attribute",
    "is_fill_invalid",
    "looks_like_image",
    "noted",
    "number",
    "numbers_of",
    "plain_layout",
    "with_note",
]

NOTE = "geomedsr"
"""The attribute in which a sink notes grid, channels and nodata, so that the round trip is exact."""

_CHANNEL_NAMES = {"c", "ch", "band", "channel", "frame", "t", "time", "wavelength"}
_MOST_UNNAMED_CHANNELS = 16
_SHORTEST_IMAGE = 4


@dataclass(frozen=True)
class Layout:
    """The meaning of an array: `lead` are the lengths of its channel axes, the rest is space.

    `names` are those of the stored axes; `order` says of each axis of space which of the stored ones it is (empty: in
    the order in which they are stored).
    """

    lead: Shape
    names: tuple[str, ...] | None
    grid: Grid
    channels: tuple[str, ...]
    nodata: float | None = None
    scaling: Scaling = PLAIN
    order: tuple[int, ...] = ()

    @property
    def axes(self) -> tuple[int, ...]:
        """The stored axis of space for each axis of space."""
        return self.order or tuple(range(self.grid.ndim))

    def taken(self, values: Sequence[int]) -> Shape:
        """Numbers for the stored axes of space, in the image's order."""
        return tuple(values[axis] for axis in self.axes)

    def stored(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Numbers (or slices) for the image's axes, in the stored order."""
        return tuple(values[self.axes.index(axis)] for axis in range(self.grid.ndim))


def looks_like_image(node: Node) -> bool:
    """Whether an array has two or three axes of space, at least two of them longer than a coordinate's bounds, or is
    said to have a place.
    """
    if not node.is_array or node.refusal is not None:
        return False
    try:
        shape = plain_layout(node).grid.shape
    except InputError:
        return False
    return "grid_mapping" in node.attributes or sum(length >= _SHORTEST_IMAGE for length in shape) >= 2


def noted(spec: ImageSpec, *, complete: bool) -> dict[str, Any]:
    """What `with_note` reads back, and whether the image is complete."""
    nodata = None if spec.nodata is None else _json_number(spec.nodata)
    channels = list(spec.channels)
    made = {} if spec.provenance is None else {"provenance": spec.provenance}
    return {"grid": spec.grid.to_json(), "channels": channels, "nodata": nodata, "complete": complete, **made}


def with_note(node: Node, layout: Layout, *, is_placed: bool) -> Layout:
    """The layout with what geomedsr noted of the image in the attributes of its array or group.

    Where the store's own conventions tell the place too (`is_placed`), they have to agree.

    Raises:
        InputError: they do not, or the note is broken.
    """
    written = node.attributes.get(NOTE)
    if not isinstance(written, Mapping) or "grid" not in written:
        return layout
    try:
        grid = Grid.from_json(dict(written["grid"]))
        channels = tuple(str(name) for name in written["channels"])
        nodata = None if written["nodata"] is None else float(written["nodata"])
    except (GridError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The attribute '{NOTE}' of {node.path} is broken ({error}); remove it.") from error
    if layout.grid.shape != grid.shape or len(layout.channels) != len(channels):
        raise InputError(
            f"{node.path} has the shape {(len(layout.channels), *layout.grid.shape)}, but its attribute '{NOTE}' tells "
            f"of {len(channels)} x {grid.shape}: the array was changed since. Correct or remove the attribute."
        )
    if is_placed and not replace(grid, crs=layout.grid.crs).same_place(layout.grid):
        raise InputError(
            f"{node.path} lies somewhere else by its attribute '{NOTE}' than by its own convention: it was changed "
            "since. Remove the attribute."
        )
    return replace(layout, grid=grid, channels=channels, nodata=nodata)


def fill_attribute(nodata: float, dtype: np.dtype[Any]) -> int | str:
    """`_FillValue` as xarray writes it in format 3: a whole number as it is, a real one as base64."""
    return base64.b64encode(struct.pack("<d", nodata)).decode() if dtype.kind == "f" else int(nodata)


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def plain_layout(node: Node) -> Layout:
    """The layout of an array without a convention, by the rules at the top.

    Raises:
        InputError: its axes are those of no image.
    """
    names = axis_names(node)
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
    return Layout(lead, names, Grid.plain(space), channel_names(node, lead), _nodata(node), _scaling(node))


def axis_names(node: Node) -> tuple[str, ...] | None:
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
        bare = [re.sub(r"_\d+$", "", name.lower()) for name in names]
        return [name in _CHANNEL_NAMES or name.rstrip("s") in _CHANNEL_NAMES for name in bare]
    shape, count = node.shape, 0
    while count < len(shape) - 2 and shape[count] == 1:
        count += 1
    left = shape[count:]
    if len(left) == 4 or (len(left) == 3 and left[0] <= _MOST_UNNAMED_CHANNELS and left[0] * 4 <= min(left[1:])):
        count += 1
    return [axis < count for axis in range(len(shape))]


def channel_names(node: Node, lead: Shape) -> tuple[str, ...]:
    """Names for the channels: an array of one inside a group is called what the array is called."""
    count = math.prod(lead)
    told = node.attributes.get("long_name")  # rioxarray's names of bands
    if isinstance(told, list) and len(told) == count and all(isinstance(name, str) for name in told):
        return tuple(told)
    inside = node.path.suffix.lower() != ".zarr"
    return (node.path.name,) if count == 1 and inside else tuple(f"channel {i + 1}" for i in range(count))


def numbers_of(node: Node) -> tuple[float | None, Scaling]:
    """What an array says of its numbers: which of them is invalid, and what they stand for.

    Raises:
        InputError: the scale or the offset is no number.
    """
    return _nodata(node), _scaling(node)


def is_fill_invalid(fill_value: float | None, nodata: float | None) -> bool:
    """Whether what was never written reads as invalid anyway: its fill value is NaN, or the nodata."""
    return fill_value is not None and (math.isnan(fill_value) or fill_value == nodata)


def _scaling(node: Node) -> Scaling:
    told = node.attributes
    if "scale_factor" not in told and _holds_digital(node):
        product = told.get("_eopf_attrs")
        told = product if isinstance(product, Mapping) else told
    values = told.get("scale_factor", 1.0), told.get("add_offset", 0.0)
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
    product = node.attributes.get("_eopf_attrs")
    if isinstance(product, Mapping) and product.get("fill_value") is not None and _holds_digital(node):
        return number(product["fill_value"])
    means_it = node.zarr_format == 2 and "_ARRAY_DIMENSIONS" in node.attributes
    filled = number(node.fill_value)
    return filled if means_it or (filled is not None and math.isnan(filled)) else None


def _holds_digital(node: Node) -> bool:
    """Whether an array of an EOPF product has whole numbers still, and not the reflectances that they stand for."""
    return node.dtype is not None and node.dtype.kind in "iu"


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
    except (ValueError, OverflowError):
        return None
