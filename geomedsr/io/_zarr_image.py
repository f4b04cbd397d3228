"""Which arrays of a store make an image, and what the store's conventions say of it.

An image is an array, alone or with what its group tells of it; the finest level of an OME-Zarr multiscale; or the
rasters of one group that lie on one grid and are stored alike, each of them a channel (as Sentinel-2 products are).
Metadata is read from each node itself. What a group has consolidated of its nodes is not believed: only where a web
server cannot be asked for the names below a group, these are taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from geomedsr.errors import InputError
from geomedsr.io._nifti_header import NiftiHeader
from geomedsr.io._zarr_codecs import small_array
from geomedsr.io._zarr_geo import finest_first, place_of
from geomedsr.io._zarr_layout import (
    NOTE,
    Layout,
    channel_names,
    looks_like_image,
    numbers_of,
    plain_layout,
    with_note,
)
from geomedsr.io._zarr_ngff import Level, Multiscales, multiscales_of
from geomedsr.io._zarr_nifti import ARRAY, header_from
from geomedsr.io._zarr_node import Node, checked_name, consolidated_names, read_node
from geomedsr.io._zarr_place import Place

__all__ = ["ZarrImage", "image_at", "levels_of", "members_of", "unfinished_at"]

_ABOVE = 4
"""How many groups above an array may tell of it."""

_DEEPEST = 64
"""Groups that may lie in each other."""

_LABELS = "labels"
"""The group in which OME-Zarr keeps what is drawn over an image, and is none."""


@dataclass(frozen=True)
class ZarrImage:
    """An image of a store; `kind` is plain, ome or geo, and `note` the node that may have geomedsr's note."""

    path: Path
    kind: str
    arrays: tuple[Node, ...]
    layout: Layout
    note: Node
    group: Node | None = None
    multiscales: Multiscales | None = None
    header: NiftiHeader | None = None

    @property
    def array(self) -> Node:
        """The array, or the first of those that are its channels."""
        return self.arrays[0]

    @property
    def provenance(self) -> str | None:
        """The text that says how the image was made, where geomedsr noted one."""
        written = self.note.attributes.get(NOTE)
        told = written.get("provenance") if isinstance(written, dict) else None
        return told if isinstance(told, str) else None


def image_at(path: Path) -> ZarrImage:
    """The image at a path: an array, or the one image of the group there.

    Raises:
        InputError: there is none, there are several, it is no image, or its run has not ended.
    """
    image = unfinished_at(path)
    written = image.note.attributes.get(NOTE)
    if isinstance(written, dict) and written.get("complete") is False:
        raise InputError(f"{Place(path)} is not complete: the run that writes it has not ended; resume it, or wait.")
    return image


def unfinished_at(path: Path) -> ZarrImage:
    """The image at a path, also where the run that writes it has not ended.

    Raises:
        InputError: there is none, there are several, or it is no image.
    """
    node = _node_at(path)
    if node.is_array:
        return _of_array(node)
    found = list(_images_below(node))
    if len(found) != 1:
        names = ", ".join(str(image.path) for image in found[:8])
        raise InputError(f"{Place(path)} holds {len(found)} images{f'; name one of {names}' if found else ''}.")
    return found[0]


def members_of(path: Path) -> Iterator[Path]:
    """The array at a path, or the images below a group; of several resolutions of one image the finest.

    Raises:
        InputError: there is no zarr store, or its metadata is broken.
    """
    node = _node_at(path)
    if node.is_array:
        yield path
    else:
        yield from (image.path for image in _images_below(node))


def levels_of(path: Path) -> tuple[Path, ...]:
    """The resolutions of the image at a path, each a path of its own, finest first; the path alone if it has one.

    Raises:
        InputError: there is no zarr store, or its metadata is broken.
    """
    node = _node_at(path)
    multiscales = None if node.is_array else multiscales_of(node)
    if multiscales is not None:
        return tuple(path / level.path for level in multiscales.levels)
    return tuple(image.path for image in _levels(node)) or (path,)


def _node_at(path: Path) -> Node:
    node = read_node(path)
    if node is None:
        if not Place(path).exists():
            raise InputError(f"There is no {Place(path)}.")
        raise InputError(f"{Place(path)} is no zarr store: it has no zarr.json, .zarray or .zgroup.")
    return node


def _images_below(group: Node, depth: int = 1) -> Iterator[ZarrImage]:
    if depth > _DEEPEST:
        raise InputError(f"{_outermost(group.path)} is more than {_DEEPEST} groups deep; name one of them.")
    multiscales = multiscales_of(group)
    if multiscales is not None:
        yield _of_level(group, multiscales, multiscales.levels[0])
        return
    levels = _levels(group)
    yield from levels[:1]
    children = _children(group)
    yield from _images_of(group, [child for child in children if looks_like_image(child)])
    passed = {_LABELS, *finest_first(group)}
    for child in children:
        if not child.is_array and child.path.name not in passed:
            yield from _images_below(child, depth + 1)


def _levels(group: Node) -> list[ZarrImage]:
    """The resolutions of a raster, finest first, where its group names them."""
    if group.is_array:
        return []
    found: list[ZarrImage] = []
    for name in finest_first(group):
        node = read_node(group.path / checked_name(group.path, name))
        if node is None:
            raise InputError(f"The multiscales of {Place(group.path)} name '{name}', and there is nothing.")
        found += [_of_array(node)] if node.is_array else list(_images_below(node))[:1]
    return sorted(found, key=lambda image: min(image.layout.grid.spacing))


def _children(group: Node) -> list[Node]:
    """The arrays and groups of a group, by name; a folder that says nothing counts as a group."""
    place = Place(group.path)
    if place.is_listed:
        found = [(folder.path, read_node(folder.path)) for folder in place.folders()]
        return [node or Node(path, group.zarr_format, is_array=False) for path, node in found]
    children = []
    for name in consolidated_names(group.path):
        node = read_node(group.path / checked_name(group.path, name))
        if node is None:
            raise InputError(f"The consolidated metadata of {place} name '{name}', and there is nothing.")
        children.append(node)
    return children


def _images_of(group: Node, arrays: Sequence[Node]) -> Iterator[ZarrImage]:
    """The arrays of a group that look like images: one image where all are rasters on one grid, stored alike."""
    arrays = _in_noted_order(group, arrays)
    images = [_of_array(array, group) for array in arrays]
    alike = {_likeness(image) for image in images}
    if len(images) > 1 and len(alike) == 1 and None not in alike:
        layout = replace(images[0].layout, channels=tuple(array.path.name for array in arrays))
        note = group if NOTE in group.attributes else images[0].note
        yield ZarrImage(group.path, "geo", tuple(arrays), with_note(group, layout, is_placed=True), note, group)
    else:
        yield from images


def _in_noted_order(group: Node, arrays: Sequence[Node]) -> Sequence[Node]:
    """The arrays in the order of the channels that geomedsr noted, where they are these."""
    names = _noted_channels(group)
    by_name = {array.path.name: array for array in arrays}
    return [by_name[name] for name in names] if sorted(names) == sorted(by_name) else arrays


def _noted_channels(node: Node) -> list[str]:
    written = node.attributes.get(NOTE)
    channels = written.get("channels") if isinstance(written, dict) else None
    return [str(name) for name in channels] if isinstance(channels, list) else []


def _likeness(image: ZarrImage) -> tuple[object, ...] | None:
    """What rasters must have in common to be channels of one image; None where one cannot be."""
    array, layout = image.array, image.layout
    if image.kind != "geo" or layout.grid.crs is None or layout.lead:
        return None
    stored = (array.shape, array.dtype, array.chunks, array.shards, array.zarr_format)
    return (layout.grid, repr(layout.nodata), layout.scaling, *stored)


def _of_array(array: Node, group: Node | None = None) -> ZarrImage:
    if array.refusal is not None:
        raise InputError(f"{Place(array.path)} cannot be read: {array.refusal}.")
    if group is None:
        found = _level_of(array)
        if found is not None:
            return found
        group = next(map(read_node, _groups_above(array.path)), None)
    group = None if group is None or group.is_array else group
    layout = _placed(plain_layout(array), array, group)
    is_placed = layout.grid.crs is not None or bool(layout.grid.units)
    kind = "geo" if is_placed else "plain"
    note = array if NOTE in array.attributes or group is None or NOTE not in group.attributes else group
    if note is array or len(_noted_channels(note)) == len(layout.channels):
        layout = with_note(note, layout, is_placed=is_placed)
    return ZarrImage(array.path, kind, (array,), layout, note, group)


def _placed(layout: Layout, array: Node, group: Node | None) -> Layout:
    """The layout with its place on earth, where conventions tell one."""
    names = layout.names or ("y", "x")
    if layout.grid.ndim != 2:
        return layout

    @lru_cache
    def sibling(name: str) -> Node | None:
        try:
            node = None if group is None else read_node(group.path / checked_name(group.path, name))
        except InputError:
            return None  # a name that leads elsewhere names nothing here
        return node if node is not None and node.is_array else None

    grid = place_of(array, group, names, sibling, small_array)
    return layout if grid is None else replace(layout, grid=grid)


def _outermost(path: Path) -> Place:
    return Place(next((parent for parent in reversed(path.parents) if parent.suffix.lower() == ".zarr"), path))


def _groups_above(path: Path) -> list[Path]:
    """The folders above an array that may be groups of its store: up to the outermost that is called a zarr."""
    names = [parent.suffix.lower() == ".zarr" for parent in path.parents]
    outermost = max((index for index, is_store in enumerate(names) if is_store), default=-1)
    return list(path.parents)[: min(outermost + 1, _ABOVE)]


def _level_of(array: Node) -> ZarrImage | None:
    """The image of which an array is a level, where a group above it says so."""
    for parent in _groups_above(array.path):
        group = read_node(parent)
        if group is None:
            continue
        multiscales = None if group.is_array else multiscales_of(group)
        if multiscales is not None:
            path = array.path.relative_to(parent).as_posix()
            level = next((level for level in multiscales.levels if level.path == path), None)
            return None if level is None else _of_level(group, multiscales, level)
    return None


def _of_level(group: Node, multiscales: Multiscales, level: Level) -> ZarrImage:
    array = _dataset(group, level)
    finest = array if level == multiscales.levels[0] else _dataset(group, multiscales.levels[0])
    lead = multiscales.lead
    if len(array.shape) != len(multiscales.axes):
        raise InputError(f"{array.path} has {len(array.shape)} axes, and its multiscales {len(multiscales.axes)}.")
    outer = multiscales.grid(multiscales.levels[0], finest.shape[lead:])
    grid, header = multiscales.grid(level, array.shape[lead:]), _header(group, outer.shape)
    if header is not None:
        _check_agree(group, outer.spacing, outer.units, header)
        grid = header.grid if level == multiscales.levels[0] else grid.within(outer, header.grid)
    count, named = math.prod(array.shape[:lead]), multiscales.labels or (header.channels if header else ())
    channels = named if len(named) == count else channel_names(array, array.shape[:lead])
    names = tuple(axis.name for axis in multiscales.axes)
    layout = Layout(array.shape[:lead], names, grid, channels, *numbers_of(array), multiscales.order)
    is_finest = level == multiscales.levels[0]
    path = group.path if is_finest else array.path
    layout = with_note(group, layout, is_placed=header is not None) if is_finest else layout
    return ZarrImage(path, "ome", (array,), layout, group, group, multiscales, header if is_finest else None)


def _dataset(group: Node, level: Level) -> Node:
    array = read_node(group.path / level.path)
    if array is None or not array.is_array:
        raise InputError(f"The multiscales of {Place(group.path)} name '{level.path}', and there is no array.")
    if array.refusal is not None:
        raise InputError(f"{Place(array.path)} cannot be read: {array.refusal}.")
    return array


def _header(group: Node, shape: tuple[int, ...]) -> NiftiHeader | None:
    array = read_node(group.path / ARRAY) if len(shape) == 3 else None
    if array is None or not array.is_array or array.refusal is not None or array.dtype != "uint8":
        return None
    return header_from(small_array(array), f"{group.path}/{ARRAY}", shape)


def _check_agree(group: Node, spacing: tuple[float, ...], units: str, header: NiftiHeader) -> None:
    told = header.grid.spacing
    if units == header.grid.units and any(abs(a - b) > 1e-3 * b for a, b in zip(spacing, told, strict=True)):
        raise InputError(
            f"{Place(group.path)} has the spacing {spacing} by its multiscales and {told} by its NIfTI header: they "
            "contradict each other; remove the wrong one."
        )
