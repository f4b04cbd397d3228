"""Tasks: an image's output in blocks of whole objects of its store, so that no two tasks touch one object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from geomedsr.grid import Box, Shape

__all__ = ["Blocks"]


@dataclass(frozen=True)
class Blocks(Sequence[Box]):
    """The boxes of an output of `shape`, `step` voxels each, last axis fastest; computed by index, never listed.

    Example:
        >>> blocks = Blocks((6, 5), (4, 5))
        >>> [(box.start, box.stop) for box in blocks]
        [((0, 0), (4, 5)), ((4, 0), (6, 5))]
    """

    shape: Shape
    step: Shape

    @property
    def counts(self) -> Shape:
        """How many there are on each axis."""
        return tuple(-(-n // step) for n, step in zip(self.shape, self.step, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, index: int) -> Box: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Box]: ...
    def __getitem__(self, index: int | slice) -> Box | Sequence[Box]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} blocks and none at {index}.")
        rest, start = index % len(self), []
        for count, step in zip(reversed(self.counts), reversed(self.step), strict=True):
            rest, here = divmod(rest, count)
            start.append(here * step)
        rows = zip(reversed(start), self.step, self.shape, strict=True)
        return Box(tuple(reversed(start)), tuple(min(a + step, n) for a, step, n in rows))
