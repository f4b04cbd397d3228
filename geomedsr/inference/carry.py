"""Tiles that go on where the one before them ended: what lies between them is not computed twice.

The tiles of a plan follow each other along the last axis that is split. Where the backend can work by rows, it is fed
what a tile has beyond the one before; where it cannot, or a tile follows no other, the tile runs with all its halo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geomedsr.grid import Box, Shape
from geomedsr.image import Voxels
from geomedsr.inference.backend import Backend, TorchBackend
from geomedsr.inference.layout import Layout
from geomedsr.inference.memory import HOLES
from geomedsr.inference.stream import DEPTH
from geomedsr.inference.windows import Demand, Work
from geomedsr.tiling import Tile

__all__ = ["Carry", "Pace"]

_BYTES = 40 << 20
"""What the layers may hold at once: fewer rows make more calls, more rows make memory that no cache holds."""

_HOLES = 3
"""How much the heap grows over that: the first and the last rows make tensors of other sizes than those between."""

_ROWS = 8
"""How many rows are worked through at once at least."""

_THINNEST = 16
"""The least voxels on each axis of a window that is worked through by rows."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a backend goes through the windows of an image: each as a whole, or along an axis by rows."""

    backend: Backend
    layout: Layout
    carries: bool = True

    @property
    def axes(self) -> tuple[int, ...]:
        """The image's axes along which windows can be worked through by rows; slices of a volume go as a whole."""
        backend, planar = self.backend, bool(self.layout.others)
        rolls = self.carries and not planar and isinstance(backend, TorchBackend) and backend.rolls
        return self.layout.axes if rolls else ()

    def axis(self, work: Work, window: Shape) -> int | None:
        """The image's axis along which these windows are; None: each runs as a whole."""
        if min(self.layout.batch_shape(window)[2:]) < _THINNEST:
            return None
        return work.carried(work.plan(window).counts, self.axes)

    def rows(self, window: Shape, axis: int) -> int:
        """How many rows are fed at once."""
        one = self.backend.footprint.bytes(self.layout.batch_shape(_with(window, axis, 1)))
        return min(window[axis], max(_ROWS, _BYTES // one))

    def demand(self, work: Work, window: Shape) -> Demand:
        """What the tiles of a window take, in the network and on their way."""
        # Read, waiting, in the network and being written; the output is once more what the sink's dtype is made from.
        waiting = 4.0 * self.layout.channels * (DEPTH + 2) * (1 + math.prod(work.factor))
        axis = self.axis(work, window)
        large = axis is not None or self.backend.footprint.is_large(self.layout.batch_shape(window))
        return Demand(int(math.prod(window) * waiting) + self.bytes(window, axis), large)

    def bytes(self, window: Shape, axis: int | None) -> int:
        """What the network takes for such windows, along an axis or as a whole."""
        if axis is None:
            holes = HOLES if self.backend.device == "cpu" else 1
            return holes * self.backend.footprint.bytes(self.layout.batch_shape(window))
        assert isinstance(self.backend, TorchBackend)
        batch = self.layout.batch_shape(_with(window, axis, self.rows(window, axis)))
        kept = self.backend.carried * batch[0] * math.prod(batch[2:]) / batch[2 + self.layout.axes.index(axis)]
        return _HOLES * self.backend.footprint.bytes(batch) + int(kept)


def _with(window: Shape, axis: int, length: int) -> Shape:
    return (*window[:axis], length, *window[axis + 1 :])


class Carry:
    """The tiles of one window on their way through a backend, in the order of their plan."""

    def __init__(self, pace: Pace, work: Work, window: Shape) -> None:
        self._backend, self._work = pace.backend, work
        self._axis = pace.axis(work, window)
        self._chain: _Chain | None = None
        if self._axis is not None:
            self._rows = pace.rows(window, self._axis)
            self._along = 2 + pace.layout.axes.index(self._axis)

    def run(self, tile: Tile, batch: Voxels) -> Voxels:
        """The finer batch of a tile, of which what the tile keeps is given; see `Layout` for both shapes."""
        if self._axis is None:
            return self._backend.run(batch)
        assert isinstance(self._backend, TorchBackend)
        chain, self._chain = self._chain, None  # what goes wrong on the way leaves nothing to go on from
        if chain is None or not chain.leads_to(tile):
            chain = _Chain(self._backend, self._axis, self._along, self._work)
        result = chain.run(tile, batch, self._rows)
        self._chain = chain
        return result


class _Chain:
    """Tiles of which each goes on where the one before ended. Numbers of rows count from the image's first."""

    def __init__(self, backend: TorchBackend, axis: int, along: int, work: Work) -> None:
        self._backend, self._axis, self._along = backend, axis, along
        self._factor, self._length = work.factor[axis], work.shape[axis]
        self._rolling = backend.rolling(along)
        self._last: Tile | None = None
        self._given = 0
        self._rest: Voxels | None = None

    def leads_to(self, tile: Tile) -> bool:
        """Whether a tile begins where the last one ended, and lies beside it nowhere."""
        last, axis = self._last, self._axis
        return (
            last is not None
            and last.write.stop[axis] == tile.write.start[axis]
            and tile.read.start[axis] <= last.read.stop[axis] < tile.read.stop[axis]
            and _beside(last.read, axis) == _beside(tile.read, axis)
            and _beside(last.write, axis) == _beside(tile.write, axis)
        )

    def run(self, tile: Tile, batch: Voxels, count: int) -> Voxels:
        """The finer batch of the tile, fed at most `count` rows at a time."""
        axis, read = self._axis, tile.read
        result = np.empty(self._finer(batch.shape), np.float32)
        begin = read.start[axis] * self._factor
        if self._last is None:
            fed = read.start[axis]
            self._given = begin
        else:
            fed = self._last.read.stop[axis]
            assert self._rest is not None
            self._place(result, self._rest, self._given - self._rest.shape[self._along] - begin)
        left = read.stop[axis] - fed
        count = -(-left // -(-left // count))  # alike, as few rows are slow
        while fed < read.stop[axis]:
            stop = min(fed + count, read.stop[axis])
            rows = batch[self._slices(fed - read.start[axis], stop - read.start[axis])]
            found = self._backend.feed(self._rolling, rows, stop == self._length)
            if found is not None:
                self._place(result, found, self._given - begin)
                self._given += found.shape[self._along]
            fed = stop
        self._last = tile
        self._rest = result[self._slices(tile.keep.stop[axis], self._given - begin)].copy()
        return result

    def _place(self, result: Voxels, rows: Voxels, first: int) -> None:
        result[self._slices(first, first + rows.shape[self._along])] = rows

    def _slices(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._along, slice(start, stop))

    def _finer(self, shape: Shape) -> Shape:
        return (*shape[:2], *(n * f for n, f in zip(shape[2:], self._backend.factor, strict=True)))


def _beside(box: Box, axis: int) -> tuple[Shape, Shape]:
    """Where a box lies on the other axes."""
    return box.start[:axis] + box.start[axis + 1 :], box.stop[:axis] + box.stop[axis + 1 :]
