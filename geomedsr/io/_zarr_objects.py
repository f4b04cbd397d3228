"""The objects that an array's chunks (or shards) are stored in: which were written, and whether they may be read."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box
from geomedsr.io._zarr_node import Node
from geomedsr.io._zarr_place import Place

__all__ = ["check_objects", "count_missing", "missing_within", "object_boxes"]

_KEY = re.compile(r"\d+(\.\d+)*")
_NOT_THERE = np.uint64(2**64 - 1)
"""Offset and length of a chunk that a shard does not have."""
_MOST_SHARDS = 1 << 17
"""Shards that are asked one by one which chunks they have."""


def object_boxes(node: Node, region: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
    """The index of each object that a region of an array touches, and the part of the region in it."""
    yield from _cells(node.shards or node.chunks, region)


def count_missing(node: Node) -> int | None:
    """How many of an array's chunks were never written; None where nobody can tell without reading it all.

    Raises:
        OSError: the store cannot be read.
    """
    place = Place(node.path)
    if not place.is_listed or (node.shards is not None and place.is_remote):
        return None
    if node.shards is not None:
        if math.prod(-(-n // side) for n, side in zip(node.shape, node.shards, strict=True)) > _MOST_SHARDS:
            return None
        whole = Box.whole(node.shape)
        return sum(1 for box in missing_within(node, whole) for _ in _cells(node.chunks, box))
    expected = math.prod(-(-n // side) for n, side in zip(node.shape, node.chunks, strict=True))
    found = sum(1 for name in place.names_below() if _KEY.fullmatch(name))
    return max(0, expected - found)


def check_objects(node: Node, region: Box) -> None:
    """Refuses what a disk may hold instead of an object.

    Raises:
        OSError: an object is empty, as a crash leaves it, no file, leads out of the store, or tells of what it has not.
    """
    if not Place(node.path).is_remote:
        for index, _ in object_boxes(node, region):
            path = node.object_path(index)
            if _is_there(path, node) and node.shards is not None and node.index_place is not None:
                _chunks_there(Place(path), node)


def missing_within(node: Node, region: Box) -> Iterator[Box]:
    """The parts of a region that were never written: whole objects, and chunks that a shard does not have.

    Raises:
        OSError: an object is empty, as a crash leaves it, or leads out of the store.
    """
    for index, inside in object_boxes(node, region):
        place = Place(node.object_path(index))
        if not (place.exists() if place.is_remote else _is_there(place.path, node)):
            yield inside
        elif node.shards is not None and node.index_place is not None:
            has_chunk = _chunks_there(place, node)
            for chunk, part in _cells(node.chunks, inside):
                if not has_chunk[tuple(i % n for i, n in zip(chunk, has_chunk.shape, strict=True))]:
                    yield part


def _cells(sides: tuple[int, ...], region: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
    ranges = [range(a // n, -(-b // n)) for a, b, n in zip(region.start, region.stop, sides, strict=True)]
    for index in product(*ranges):
        start = tuple(i * n for i, n in zip(index, sides, strict=True))
        stop = tuple((i + 1) * n for i, n in zip(index, sides, strict=True))
        inside = Box(start, stop).intersection(region)
        assert inside is not None, "the ranges are those of the region"
        yield index, inside


def _chunks_there(shard: Place, node: Node) -> NDArray[np.bool_]:
    """For each chunk of a shard, whether it has it, by the shard's own index."""
    assert node.shards is not None
    assert node.index_place is not None
    counts = tuple(outer // inner for outer, inner in zip(node.shards, node.chunks, strict=True))
    (where, checksum), size = node.index_place, 16 * math.prod(counts)
    data = shard.read_end(size + checksum, of=where)
    if len(data) < size + checksum:
        raise OSError(f"{shard.path.relative_to(node.path)} is cut short: its index is not whole")
    index = np.frombuffer(data[:size], "<u8").reshape(*counts, 2)
    there = np.asarray((index != _NOT_THERE).any(axis=-1))
    if not shard.is_remote and there.any():
        starts, lengths, end = index[there][:, 0], index[there][:, 1], shard.path.stat().st_size
        if (starts > end).any() or (lengths > end - np.minimum(starts, end)).any():
            raise OSError(f"{shard.path.relative_to(node.path)} tells of chunks beyond its end")
    return there


def _is_there(path: Path, node: Node) -> bool:
    """Whether a file is there, and one that may be read: zarr takes an empty shard for one never written."""
    _check_inside(path.parent, node.path)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(found.st_mode):
        raise OSError(f"{path.relative_to(node.path)} is a link, which is not followed")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path.relative_to(node.path)} is no file")
    if found.st_size == 0 and node.shards is not None:
        raise OSError(f"{path.relative_to(node.path)} is empty")
    return True


@lru_cache(4096)
def _check_inside(folder: Path, root: Path) -> None:
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root)):
        raise OSError(f"{folder.relative_to(root)} is a link out of the store, which is not followed")
