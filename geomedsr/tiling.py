"""Which boxes to read, pad, keep and write, so that tiles give exactly what the whole image would.

Every window of a plan has the same size and lies inside the image (padded at its far end to a multiple of what the
network strides by). A window at the image's border touches it, so the network pads there what it would pad in a
whole-image run; everywhere else at least `halo` real voxels lie between what is kept and the window's edge. What is
kept partitions the output, and its boundaries follow the sink's chunks wherever a window is large enough for one.

A plan computes its tiles by index: an image may have millions of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import overload

from geomedsr.errors import GridError
from geomedsr.grid import Box, Factor, Shape

__all__ = ["Plan", "Tile", "plan", "smallest_window"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of the work.

    `read` lies in the image; `pad` voxels are appended to its far ends, which makes it the window that the network
    sees; `keep` is what is taken of the window's output; `write` is where that goes in the output image.
    """

    read: Box
    pad: Shape
    keep: Box
    write: Box

    @property
    def window(self) -> Shape:
        """The shape that the network sees."""
        return tuple(n + p for n, p in zip(self.read.shape, self.pad, strict=True))


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a plan. `length` counts lr voxels, `first`, `step` and `unit` hr voxels."""

    length: int
    padded: int
    factor: int
    halo: int
    multiple: int
    window: int
    unit: int
    first: int
    step: int
    count: int

    def cut(self, index: int) -> int:
        """Where the kept part of a window begins; that of window `count` is the end of the output."""
        if index == self.count:
            return self.length * self.factor
        return self.first + (index - 1) * self.step if index else 0

    def start(self, begin: int) -> int:
        """Where the window must start to keep voxels from `begin` on."""
        wanted = (begin // self.factor - self.halo) // self.multiple * self.multiple
        return min(max(wanted, 0), self.padded - self.window)

    def reaches(self, start: int) -> int:
        """The end of what a window that starts at `start` gives exactly."""
        stop = start + self.window
        return self.length * self.factor if stop == self.padded else (stop - self.halo) * self.factor

    def pieces(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """An interval of the output, cut into what one window can keep."""
        while begin < end:
            limit = self.reaches(self.start(begin))
            aligned = limit // self.unit * self.unit
            stop = min(aligned if aligned > begin else limit, end) if limit < end else end
            yield begin, stop
            begin = stop


def _axis(length: int, factor: int, window: int, halo: int, chunk: int, multiple: int) -> _Axis:
    padded = -(-length // multiple) * multiple
    window = min(-(-window // multiple) * multiple, padded)
    if window == padded:
        return _Axis(length, padded, factor, halo, multiple, window, 1, 0, 0, 1)
    for unit in (chunk, factor):
        # Starts are multiples, so up to `multiple - 1` voxels of a window are lost; and where chunks do not divide
        # by the factor, a boundary may fall inside an lr voxel.
        room = (window - 2 * halo - (multiple - 1)) * factor - (factor - 1 if unit % factor else 0)
        first, step = (window - halo) * factor // unit * unit, room // unit * unit
        if step > 0:
            last = (padded - window + halo) * factor
            count = 2 + max(0, -(-(last - first) // step))
            return _Axis(length, padded, factor, halo, multiple, window, unit, first, step, count)
    raise GridError(
        f"A window of {window} voxels leaves nothing to keep between two halos of {halo} voxels; "
        f"it needs at least {smallest_window(halo, multiple)}."
    )


def smallest_window(halo: int, multiple: int) -> int:
    """The least number of voxels on an axis from which a window keeps any, away from the border."""
    return -(-(2 * halo + multiple) // multiple) * multiple


class Plan(Sequence[Tile]):
    """The tiles of an image, last axis fastest."""

    def __init__(self, axes: tuple[_Axis, ...]) -> None:
        self._axes = axes
        self.window: Shape = tuple(axis.window for axis in axes)
        self.counts: Shape = tuple(axis.count for axis in axes)

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...
    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"A plan of {len(self)} tiles has none at {index}.")
        rest, place = index % len(self), []
        for count in reversed(self.counts):
            rest, here = divmod(rest, count)
            place.append(here)
        return self._at(tuple(reversed(place)))

    def _at(self, place: Shape) -> Tile:
        cuts = list(zip(self._axes, place, strict=True))
        return self.tile(Box(tuple(a.cut(i) for a, i in cuts), tuple(a.cut(i + 1) for a, i in cuts)))

    def along(self, axis: int) -> Iterator[Tile]:
        """The tiles with this axis fastest: each but the first of a row begins where the one before it ended."""
        beside = [range(1) if a == axis else range(count) for a, count in enumerate(self.counts)]
        for place in product(*beside):
            for here in range(self.counts[axis]):
                yield self._at((*place[:axis], here, *place[axis + 1 :]))

    @property
    def redundancy(self) -> float:
        """The voxels that the network sees over the voxels of the image."""
        seen = [axis.count * axis.window / axis.length for axis in self._axes]
        return math.prod(seen)

    def tile(self, write: Box) -> Tile:
        """The tile that writes a box of the output which one window can give."""
        starts = [axis.start(begin) for axis, begin in zip(self._axes, write.start, strict=True)]
        stops = [min(a + axis.window, axis.length) for axis, a in zip(self._axes, starts, strict=True)]
        read = Box(tuple(starts), tuple(stops))
        pad = tuple(axis.window - n for axis, n in zip(self._axes, read.shape, strict=True))
        keep = write.relative_to([a * axis.factor for axis, a in zip(self._axes, starts, strict=True)])
        return Tile(read, pad, keep, write)

    def refit(self, write: Box) -> Iterator[Tile]:
        """A box of the output, that another plan's window would have given, in tiles of this plan's window."""
        intervals = [list(a.pieces(*ends)) for a, *ends in zip(self._axes, write.start, write.stop, strict=True)]
        for box in product(*intervals):
            yield self.tile(Box(tuple(begin for begin, _ in box), tuple(end for _, end in box)))

    def pieces(self, write: Box) -> int:
        """How many tiles `refit` gives for a box of the output."""
        rows = zip(self._axes, write.start, write.stop, strict=True)
        return math.prod(sum(1 for _ in axis.pieces(begin, end)) for axis, begin, end in rows)


def plan(
    shape: Shape,
    factor: Factor,
    window: Shape,
    halo: Shape,
    chunks: Shape | None = None,
    multiple_of: Shape | None = None,
) -> Plan:
    """The tiles of an image of `shape`.

    `window` is what the network sees, halo included; it is rounded up to `multiple_of` and never larger than the
    image. `chunks` are the sink's blocks, in hr voxels; where a window keeps less than one of them on an axis, the
    tiles do not align on that axis.

    Raises:
        GridError: the window is smaller than two halos and the image larger than the window.

    Example:
        >>> tiles = plan((100,), (2,), (40,), (5,), chunks=(16,))
        >>> [(t.read.start[0], t.read.stop[0], t.write.start[0], t.write.stop[0]) for t in tiles]
        [(0, 40, 0, 64), (27, 67, 64, 112), (51, 91, 112, 160), (60, 100, 160, 200)]
    """
    chunks = chunks or factor
    multiple_of = multiple_of or (1,) * len(shape)
    return Plan(tuple(_axis(*row) for row in zip(shape, factor, window, halo, chunks, multiple_of, strict=True)))
