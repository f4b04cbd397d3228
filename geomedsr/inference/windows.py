"""Which window a network should see: the one with the least redundant work under a limit of memory.

- A halo costs (2 halo / window) on each axis that is split, so slabs and full rows come first, and networks on three
  axes, whose halos are dear, may take more memory than the frugal amount.
- Layers with few elements run twice on the CPU (see `kernels`), so windows are large enough in every layer.
- A plan of one tile cannot overlap reading, computing and writing; some eight tiles can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor, Shape
from geomedsr.tiling import Plan, plan, smallest_window

__all__ = ["FILL", "FILL_BESIDE", "Demand", "Work", "choose_window", "halve", "overhead"]

_DEAR = 1.15
"""Above this redundancy more than the frugal memory is spent."""

_WORTH = 0.95
"""What twice the memory must bring the redundancy down to."""

_TILE_COST = 8192
"""What a tile costs besides its voxels, in voxels: threads that meet, and small kernels."""

_SPLIT_COST = 0.005
"""What an axis that is split costs: shorter rows to read and write."""

_AGAIN_COST = 0.01
"""What it costs that a tile ends inside the output's chunks, and these are begun again."""

_ACROSS_COST = 0.005
"""What it costs to go on along a later axis: its rows do not lie together in memory and in files."""

FILL = 0.1
"""What a single tile costs more than many: nothing overlaps with its reading and writing."""

FILL_BESIDE = 0.25
"""The same beside a GPU, which computes that much faster than a host reads and writes."""

_Number = TypeVar("_Number", float, NDArray[Any])


@dataclass(frozen=True, slots=True)
class Work:
    """An image to be tiled: all that `plan` needs but the window."""

    shape: Shape
    factor: Factor
    halo: Shape
    chunks: Shape | None
    multiple_of: Shape

    def plan(self, window: Shape) -> Plan:
        """The tiles of a window."""
        return plan(self.shape, self.factor, window, self.halo, self.chunks, self.multiple_of)

    def on_axis(self, axis: int) -> Work:
        """The same on one axis alone."""
        chunks = None if self.chunks is None else (self.chunks[axis],)
        return Work((self.shape[axis],), (self.factor[axis],), (self.halo[axis],), chunks, (self.multiple_of[axis],))

    def carried(self, counts: Shape, axes: Collection[int]) -> int | None:
        """The axis, one of `axes`, on which each tile goes on where the one before ended; None: there is none.

        `counts` are the tiles on each axis; an axis that is not split is taken where none of them is.
        """
        split = (axis for axis in axes if counts[axis] > 1)
        return next(split, next(iter(axes), None))

    @property
    def padded(self) -> Shape:
        """The image's shape, rounded up to what the network strides by."""
        return tuple(-(-n // m) * m for n, m in zip(self.shape, self.multiple_of, strict=True))

    def fitted(self, window: Shape) -> Shape:
        """A window cut down to the image and up to what the network strides by."""
        rows = zip(window, self.padded, self.multiple_of, strict=True)
        return tuple(min(-(-n // multiple) * multiple, most) for n, most, multiple in rows)

    @property
    def smallest(self) -> Shape:
        """The smallest window from which something is kept."""
        least = map(smallest_window, self.halo, self.multiple_of)
        return tuple(min(n, w) for n, w in zip(self.padded, least, strict=True))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a window takes: bytes, and whether it is large enough for the fast kernels."""

    bytes: int
    large: bool


def choose_window(
    work: Work,
    demand: Callable[[Shape], Demand],
    frugal: int,
    limit: int,
    carries: Collection[int] = (),
    fill: float = FILL,
) -> Shape | None:
    """The window of the least cost within `frugal` bytes, or within `limit` where that saves much; None: none fits.

    `carries` are the axes on which a tile can go on where the one before ended: there its halo costs nothing. `fill` is
    what a single tile costs more than many, of which one is read and another written while it runs.
    """
    choices = _choices(work, tuple(carries), fill)
    best: int | None = None
    budget = min(frugal, limit)
    while True:
        found = _first(choices, demand, budget)
        if found is not None and (best is None or choices.redundancy[found] < choices.redundancy[best] * _WORTH):
            best = found
        if budget >= limit or (best is not None and choices.redundancy[best] <= _DEAR):
            return None if best is None else choices.window(best)
        budget = min(2 * budget, limit)


@dataclass(frozen=True, slots=True)
class _Choices:
    """Windows with how much of their work is done twice, the cheapest first. There may be ten thousand."""

    windows: NDArray[np.int64]
    redundancy: NDArray[np.float64]

    def window(self, index: int) -> Shape:
        return tuple(int(length) for length in self.windows[index])


def _first(choices: _Choices, demand: Callable[[Shape], Demand], budget: int) -> int | None:
    """The cheapest choice that fits; one that is not large only where no other fits.

    What takes no less than a window that does not fit is not asked about: a demand grows with the voxels.
    """
    spare = None
    voxels = choices.windows.prod(1)
    left = np.arange(len(voxels))
    while left.size:
        index = int(left[0])
        found = demand(choices.window(index))
        if found.bytes > budget:
            left = left[voxels[left] < voxels[index]]
            continue
        if found.large:
            return index
        spare, left = index if spare is None else spare, left[1:]
    return spare


@lru_cache(maxsize=8)
def _choices(work: Work, carries: tuple[int, ...], fill: float) -> _Choices:
    """The windows of a work; kept, as the images of a folder are mostly alike."""
    axes = [np.array(list(_lengths(work, axis))) for axis in range(len(work.shape))]
    lengths, counts, again = (_combined([axis[:, column] for axis in axes]) for column in range(3))
    pixels, tiles, split = math.prod(work.shape), counts.prod(1), counts > 1
    spans, across = _spans(work, lengths, counts, carries)
    seen = spans.prod(1) / pixels
    beside = overhead(split.sum(1), tiles, pixels, fill) + _AGAIN_COST * (split * again).sum(1)
    order = np.argsort(seen + beside + across, kind="stable")
    return _Choices(lengths[order].astype(np.int64), seen[order])


def overhead(split: _Number, tiles: _Number, pixels: int, fill: float = FILL) -> _Number:
    """What tiles cost besides the voxels they see, for each of the image's, where so many axes are split."""
    return _SPLIT_COST * split + tiles * _TILE_COST / pixels + fill / tiles


def _spans(
    work: Work, lengths: NDArray[np.float64], counts: NDArray[np.float64], carries: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many voxels are seen on each axis in all, and what it costs that tiles go on along one (`Work.carried`)."""
    spans, across = lengths * counts, np.zeros(len(lengths))
    left = np.ones(len(lengths), bool)
    for axis in carries:
        goes_on = left & (counts[:, axis] > 1)
        spans[goes_on, axis] = work.padded[axis]
        across[goes_on] = _ACROSS_COST * axis
        left &= ~goes_on
    return spans, across


def _combined(axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Every combination of one value of each axis, a row each, the last axis' changing fastest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _lengths(work: Work, axis: int) -> Iterator[tuple[int, int, float]]:
    """Lengths of the window on an axis, how many tiles each makes, and how many of them end inside each chunk.

    They are the shortest for their number of tiles, and the shortest that follows chunks.
    """
    alone = work.on_axis(axis)
    factor, halo, chunks = alone.factor, alone.halo, alone.chunks or alone.factor
    multiple, padded = work.multiple_of[axis], work.padded[axis]

    def tiles(window: int) -> Plan:
        return plan(alone.shape, factor, (window,), halo, chunks, (multiple,))

    whole = -(-chunks[0] // factor[0]) + 2 * halo[0]
    if (aligned := -(-(whole + multiple - 1) // multiple) * multiple) < padded:
        yield aligned, len(tiles(aligned)), 0.0
    wanted, least = 1, smallest_window(halo[0], multiple)
    while wanted == 1 or wanted < padded:
        low, high = min(least, padded), padded
        while low < high:  # the fewer voxels, the more tiles
            middle = (low + high) // 2 // multiple * multiple
            low, high = (low, middle) if len(tiles(middle)) <= wanted else (middle + multiple, high)
        found = tiles(high)
        step = found[0].write.stop[0]
        yield high, len(found), chunks[0] / step if step % chunks[0] else 0.0
        if high <= least:
            return
        # One tile more, then in steps of a fifth: windows that differ by less are alike.
        wanted = max(len(found) + 1, math.ceil(wanted * 1.2))


def halve(work: Work, window: Shape) -> Shape | None:
    """The window with half as much to keep on the axis where it keeps most, or None where it cannot be smaller."""
    room = [w - s for w, s in zip(window, work.smallest, strict=True)]
    axis = max(range(len(room)), key=room.__getitem__)
    if room[axis] <= 0:
        return None
    multiple = work.multiple_of[axis]
    shorter = work.smallest[axis] + room[axis] // 2 // multiple * multiple
    return (*window[:axis], shorter, *window[axis + 1 :])
