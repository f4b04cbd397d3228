"""The objects that an array's chunks (or shards) are stored in: which are there, and whether they may be read."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

from geomedsr.grid import Box
from geomedsr.io._zarr_node import Node
from geomedsr.io._zarr_place import Place

__all__ = ["count_missing", "missing_within", "object_boxes"]

_KEY = re.compile(r"\d+(\.\d+)*")


def object_boxes(node: Node, region: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
    """The index of each object that a region of an array touches, and the part of the region in it."""
    sides = node.shards or node.chunks
    ranges = [range(a // n, -(-b // n)) for a, b, n in zip(region.start, region.stop, sides, strict=True)]
    for index in product(*ranges):
        start = tuple(i * n for i, n in zip(index, sides, strict=True))
        stop = tuple((i + 1) * n for i, n in zip(index, sides, strict=True))
        inside = Box(start, stop).intersection(region)
        assert inside is not None, "the ranges are those of the region"
        yield index, inside


def count_missing(node: Node) -> int | None:
    """How many of an array's objects were never written; None where the store cannot be asked.

    Raises:
        OSError: the store cannot be read.
    """
    place = Place(node.path)
    if not place.is_listed:
        return None
    sides = node.shards or node.chunks
    expected = math.prod(-(-n // side) for n, side in zip(node.shape, sides, strict=True))
    found = sum(1 for name in place.names_below() if _KEY.fullmatch(name))
    return max(0, expected - found)


def missing_within(node: Node, region: Box) -> Iterator[Box]:
    """The parts of a region whose objects were never written.

    Raises:
        OSError: an object is empty, as a crash leaves it, or leads out of the store.
    """
    for index, inside in object_boxes(node, region):
        path = node.object_path(index)
        exists = Place(path).exists() if Place(path).is_remote else _checked(path, node)
        if not exists:
            yield inside


def _checked(path: Path, node: Node) -> bool:
    """Whether a file is there, and one that may be read: zarr takes an empty shard for one never written."""
    _check_inside(path.parent, node.path)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(found.st_mode):
        raise OSError(f"{path.relative_to(node.path)} is a link, which is not followed")
    if found.st_size == 0 and node.shards is not None:
        raise OSError(f"{path.relative_to(node.path)} is empty")
    return True


@lru_cache(4096)
def _check_inside(folder: Path, root: Path) -> None:
    if not os.path.realpath(folder).startswith(os.path.realpath(root)):
        raise OSError(f"{folder.relative_to(root)} is a link out of the store, which is not followed")
