"""A glance at what is being written: a few boxes of it are kept and held against the input, at next to no cost.

They are taken as the network gave them, before they are rounded and packed, so that no file has to be read again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor
from geomedsr.image import Source, Voxels
from geomedsr.run.values import look_boxes

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["Glance", "Seen"]

_SIZES = {2: 32, 3: 16}
_MOST_CHANNELS = 8
_MOVED = 0.1
_DIFFERS = 30.0
_TIMES_CUBIC = 2.5
_CERTAIN = 0.03
"""No shift is told whose standard deviation is more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """By how many voxels the output lies from its input, by how much of the input's spread (in percent) it differs from
    it when it is made coarse again, and how many voxels are invalid in one of both alone. `plain` is by how much cubic
    interpolation would have differed, where that was asked. NaN: the boxes do not tell.
    """

    moved: float = math.nan
    differs: float = math.nan
    holes: int = 0
    plain: float = math.nan

    def __str__(self) -> str:
        parts = [
            f"moved {self.moved:.3f} voxel" if not math.isnan(self.moved) else "",
            f"coarse again within {self.differs:.2g} % of the input" if not math.isnan(self.differs) else "",
            f"{self.holes} voxels valid in one of both alone" if self.holes else "",
        ]
        return ", ".join(part for part in parts if part)

    @property
    def doubt(self) -> str | None:
        """A sentence where an honest output would not look like this."""
        differs = self.differs > _DIFFERS and not self.differs <= _TIMES_CUBIC * self.plain
        if not (self.moved > _MOVED or differs or self.holes):
            return None
        return f"A glance at the output finds it {self}: hold it against its input with geomedsr verify."


class Glance:
    """A few boxes of an output, kept on their way to the sink."""

    def __init__(self, source: Source, factor: Factor) -> None:
        self._source, self._factor = source, factor
        self._count = min(len(source.spec.channels), _MOST_CHANNELS)
        size = _SIZES[len(factor)]
        self._kept = {box: self._room(box) for box in look_boxes(source.spec.grid.shape, size)}

    def _room(self, box: Box) -> Voxels:
        return np.full((self._count, *box.scaled(self._factor).shape), np.nan, np.float32)

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes what of a written box lies in those that are kept."""
        for kept, room in self._kept.items():
            fine = kept.scaled(self._factor)
            if (common := fine.intersection(box)) is not None:
                part = voxels[(slice(self._count), *common.relative_to(box.start).slices)]
                room[(slice(None), *common.relative_to(fine.start).slices)] = part

    def read(self, written: Source) -> None:
        """Takes them from an output that is complete."""
        for kept, room in self._kept.items():
            room[...] = written.read(kept.scaled(self._factor))[: self._count]

    def seen(self, model: Model) -> Seen:
        """What the boxes say of the output that `model` made."""
        from geomedsr.trust._degraded import interpolated
        from geomedsr.trust._values import Holes

        pairs = [(self._source.read(box)[: self._count], room) for box, room in self._kept.items()]
        holes = Holes()
        for y, x in pairs:
            for channel in range(self._count):
                holes.add(x[channel], y[channel], self._factor)
        found, plain = self._differs(model, pairs), math.nan
        if found > _DIFFERS:
            plain = self._differs(model, [(y, interpolated(y, self._factor)) for y, _ in pairs])
        return Seen(self._moved(pairs), found, holes.lost + holes.made, plain)

    def _moved(self, pairs: list[tuple[Voxels, Voxels]]) -> float:
        """The largest displacement on an axis, in voxels of the output."""
        from geomedsr.trust._degraded import averaged
        from geomedsr.trust._shift import Shift

        shift = Shift(len(self._factor), _spans([y for y, _ in pairs]))
        for y, x in pairs:
            shift.add(averaged(x, self._factor), y)
        factor = np.array(self._factor)
        moved = np.where(shift.doubt * factor <= _CERTAIN, np.abs(shift.voxels * factor), np.nan)
        return float(np.nanmax(moved)) if np.isfinite(moved).any() else math.nan

    def _differs(self, model: Model, pairs: list[tuple[Voxels, Voxels]]) -> float:
        """The difference in percent of the spread, of the channel that differs most."""
        from geomedsr.trust._degraded import AVERAGE, degradation_of

        linear = degradation_of(model, self._count)
        linear = AVERAGE if None in linear.halo(self._factor) else linear
        rim = [n or 0 for n in linear.halo(self._factor)]
        inner = [_inside(y, rim) for y, _ in pairs]
        there = _joined([y[index] for (y, _), index in zip(pairs, inner, strict=True)])
        here = _joined([linear(x, self._factor)[index] for (_, x), index in zip(pairs, inner, strict=True)])
        found = [_difference(a, b) for a, b in zip(here, there, strict=True)]
        return max((100 * one for one in found if one is not None), default=math.nan)


def _inside(y: Voxels, rim: list[int]) -> tuple[slice, ...]:
    """What is left of a box without its rim: nothing where it is no wider."""
    sides = zip(rim, y.shape[1:], strict=True)
    return (slice(None), *(slice(r, n - r) if n > 2 * r else slice(0, 0) for r, n in sides))


def _joined(parts: list[Voxels]) -> NDArray[np.float64]:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float64)


def _spans(parts: list[Voxels]) -> NDArray[np.float64]:
    """Largest less smallest valid value of each channel, 1 where that is nothing."""
    valid = [row[np.isfinite(row)] for row in _joined(parts)]
    return np.array([float(np.ptp(row)) or 1.0 if row.size else 1.0 for row in valid])


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """The root mean square of a - b over the standard deviation of b."""
    known = np.isfinite(a) & np.isfinite(b)
    spread = float(b[known].std()) if known.any() else 0.0
    return float(np.sqrt(np.mean((a[known] - b[known]) ** 2))) / spread if spread > 0 else None
