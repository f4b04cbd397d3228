"""An output beside the input that it is a whole factor finer than, read block by block at the same places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geomedsr.errors import InputError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Source, Voxels

__all__ = ["Aligned", "Block"]

_BUDGET = 1 << 22
"""At most how many fine values a block has, about, unless a degradation looks at whole axes."""


@dataclass(frozen=True)
class Block:
    """A box of the input with a rim around it, and the same place of the output.

    Shape: y (C, *wide.shape), x (C, *(wide.shape * factor))
    """

    box: Box
    wide: Box
    factor: Factor
    y: Voxels
    x: Voxels

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the box lies in `y`, channels first."""
        return (slice(None), *self.box.relative_to(self.wide.start).slices)

    @property
    def inner_fine(self) -> tuple[slice, ...]:
        """Where the box lies in `x`, channels first."""
        return (slice(None), *self.box.relative_to(self.wide.start).scaled(self.factor).slices)


@dataclass(frozen=True)
class Aligned:
    """An input and an output; `channels` are those of the input that the output's were made of, in its order.

    Raises:
        InputError: the output is no whole multiple of the input, or has channels that the input lacks.
    """

    before: Source
    after: Source
    channels: tuple[int, ...]

    @classmethod
    def of(cls, before: Source, after: Source) -> Aligned:
        """The two, their channels matched by name, or by place where both have as many."""
        have, made = before.spec.channels, after.spec.channels
        if len(set(have)) == len(have) and set(made) <= set(have):
            return cls(before, after, tuple(have.index(name) for name in made))
        if len(have) != len(made):
            raise InputError(
                f"The output has the channels {', '.join(made)}, the input {', '.join(have)}: which of them belong "
                "together cannot be told; select the input's with --bands, in the output's order."
            )
        return cls(before, after, tuple(range(len(have))))

    @property
    def factor(self) -> Factor:
        """How many times finer the output is."""
        return self.after.spec.grid.ratio_to(self.before.spec.grid)

    @property
    def shape(self) -> Shape:
        """The input's shape, channels left out."""
        return self.before.spec.grid.shape

    def blocks(self, halo: Sequence[int | None]) -> Iterator[Block]:
        """Blocks that cover the image once, each with a rim of `halo` input voxels (None: blocks of the whole axis)."""
        step = self._step(halo)
        rim = tuple(n or 0 for n in halo)
        for box in Box.whole(self.shape).split(step):
            yield self.block(box, box.grown(rim).clipped(self.shape))

    def block(self, box: Box, wide: Box) -> Block:
        """The block of a box, with what lies in `wide` around it."""
        y = self.before.read(wide)[list(self.channels)]
        return Block(box, wide, self.factor, y, self.after.read(wide.scaled(self.factor)))

    def _step(self, halo: Sequence[int | None]) -> Shape:
        step, least = list(self.shape), [n if rim is None else 16 for n, rim in zip(self.shape, halo, strict=True)]
        values = len(self.channels) * math.prod(self.factor)
        # The first axes are cut first: files are stored with the last ones together.
        for axis in range(len(step)):
            while math.prod(step) * values > _BUDGET and step[axis] > least[axis]:
                step[axis] = max((step[axis] + 1) // 2, least[axis])
        return tuple(step)
