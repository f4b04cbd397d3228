"""How an output is cut into tasks and each task into windows: chosen together, as tasks share no window.

A task is a block of whole objects of the store. A window that keeps 1000 of an object's 1024 voxels would run four
times for it, so the window is the smallest that gives a block of as many objects as it can, or one object in equal
parts. A block's own memory, in which its parts wait for each other, counts with the window's. What a job saves it saves
for each of thousands of blocks, so it may take more memory than an image alone: as much as pays for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from geomedsr.grid import Box, Shape
from geomedsr.image import ImageSpec
from geomedsr.inference.windows import Demand, Work, overhead

__all__ = ["Cut", "asked_cut", "block_bytes", "choose_cut"]

_WORTH = 0.975
"""What twice the memory must bring the cost of a job down to, above the frugal amount."""

_PACKED = 3
"""The objects of a block are packed one after the other; each takes so many times its size."""


@dataclass(frozen=True, slots=True)
class Cut:
    """`step` are the hr voxels of a task on each axis, `window` the lr voxels that the network sees."""

    window: Shape
    step: Shape


@dataclass(frozen=True, slots=True)
class _Side:
    """One axis of a cut; `count` are the windows along it."""

    window: int
    step: int
    count: int


def block_bytes(cut: Cut, after: ImageSpec) -> int:
    """What a block of an output takes in memory beside the windows that it is made with: as it waits, and packed."""
    one = math.prod(after.chunks or after.grid.shape)
    return (math.prod(cut.step) * len(after.channels) + _PACKED * one) * after.dtype.itemsize


def choose_cut(work: Work, demand: Callable[[Cut], Demand], frugal: int, limit: int) -> Cut | None:
    """The cut of the least cost that takes no more memory than pays for itself, nor than `limit`; None: none fits."""
    pays, pixels = -math.log2(_WORTH), math.prod(work.shape)
    best: tuple[bool, float, Cut] | None = None
    for sides in product(*(_sides(work.on_axis(axis)) for axis in range(len(work.shape)))):
        cut = Cut(tuple(side.window for side in sides), tuple(side.step for side in sides))
        needs = demand(cut)
        if needs.bytes > limit:
            continue
        split, tiles = sum(side.count > 1 for side in sides), math.prod(side.count for side in sides)
        cost = tiles * math.prod(cut.window) / pixels + overhead(split, tiles, pixels)
        cost *= max(1.0, needs.bytes / frugal) ** pays
        if best is None or (not needs.large, cost) < best[:2]:
            best = not needs.large, cost, cut
    return best[2] if best else None


def asked_cut(work: Work, tile: Shape) -> Cut:
    """The cut whose windows bring forward so many lr voxels on each axis, or fewer where that suits the objects."""
    sides = [_asked(work.on_axis(axis), length) for axis, length in enumerate(tile)]
    return Cut(tuple(side.window for side in sides), tuple(side.step for side in sides))


def _asked(work: Work, length: int) -> _Side:
    total, unit, kept = *_lengths(work), length * work.factor[0]
    if kept >= total:
        return _side(work, total, 1)
    return _side(work, kept // unit * unit, 1) if kept >= unit else _side(work, unit, -(-unit // kept))


@lru_cache(256)
def _sides(work: Work) -> tuple[_Side, ...]:
    """Ways to cut an axis: blocks of several objects, one window each, and blocks of one in several windows."""
    total, unit = _lengths(work)
    objects = -(-total // unit)
    sides = [_side(work, step, 1) for step in {-(-objects // count) * unit for count in _growing(1, objects)}]
    for parts in _growing(2, unit):
        sides.append(_side(work, unit, parts))
        if sides[-1].window <= work.smallest[0]:
            break
    return tuple(sides)


def _growing(start: int, stop: int) -> Iterator[int]:
    """One more each, then in steps of a fifth: cuts that differ by less are alike. The last is `stop`."""
    count = start
    while count < stop:
        yield count
        count = max(count + 1, math.ceil(count * 1.2))
    if start <= stop:
        yield stop


def _lengths(work: Work) -> tuple[int, int]:
    """The hr voxels of an axis, and those of one object on it."""
    total = work.shape[0] * work.factor[0]
    return total, min(work.chunks[0], total) if work.chunks else total


def _side(work: Work, step: int, parts: int) -> _Side:
    """An axis in blocks of `step` hr voxels, each of which the smallest window gives in at most so many parts."""
    (length,), (factor,), (halo,), (multiple,), (padded,) = (
        work.shape, work.factor, work.halo, work.multiple_of, work.padded
    )  # fmt: skip
    step = min(step, length * factor)
    blocks = -(-length * factor // step)
    # Those at the ends are alone, and those between them repeat with the grid on which windows begin.
    looked = sorted({*range(min(blocks, multiple + 2)), *range(max(0, blocks - 2), blocks)})
    boxes = [Box((index * step,), (min((index + 1) * step, length * factor),)) for index in looked]

    def counts(window: int) -> list[int]:
        made = work.plan((window,))
        return [made.pieces(box) for box in boxes]

    part = -(-step // (parts * factor))
    low = max(min(part // multiple * multiple, padded), work.smallest[0])
    high = min(-(-(part + 2 * halo + 2 * multiple) // multiple) * multiple, padded)
    high = high if high >= low and max(counts(high)) <= parts else padded
    while low < high:
        middle = (low + high) // 2 // multiple * multiple
        low, high = (low, middle) if max(counts(middle)) <= parts else (middle + multiple, high)
    found = counts(high)
    return _Side(high, step, sum(found) + (blocks - len(looked)) * max(found))
