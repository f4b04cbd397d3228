"""Whether tiles left seams: lines across the image at which the output steps and the input does not.

Of an output two things are left when the input is taken away: on the fine grid its own details (the input interpolated
is taken from it), on the coarse grid what it degrades to wrongly. Both are as often above as below: their mean over a
line, and over the few lines beside it, is all but nothing. A step is not. The figure of a line is the mean over the
lines behind it less that over the lines before it, against the spread of that figure among all lines. Values are held
at 5 % of the range, so that edges do not rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Voxels

__all__ = ["Seam", "Seams"]

_CLIP = 0.05
_BESIDE = 4
"""Input voxels on either side of a line whose means are compared."""

_LEAST = 1e-4
"""The figure varies at least by this share of the range, so that nothing is called a seam that nobody could see."""

_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Seam:
    """The line that steps most: before which voxel of which axis, by what share of the range, how far from usual."""

    axis: int
    place: int
    step: float
    score: float


class Seams:
    """Sums over blocks of what is left along each line of each axis, on one grid.

    `beside` is how many voxels make an input voxel on each axis of that grid.
    """

    def __init__(self, shape: Shape, beside: Factor, ranges: NDArray[np.float64]) -> None:
        self._beside = tuple(_BESIDE * f for f in beside)
        self._ranges = ranges.reshape(-1, *[1] * len(shape))
        self._totals = [np.zeros(n) for n in shape]
        self._counts = [np.zeros(n) for n in shape]

    def add(self, box: Box, left: Voxels) -> None:
        """Takes what is left in a box.

        Shape: (C, *box.shape), NaN where invalid
        """
        held = np.clip(left / self._ranges, -_CLIP, _CLIP)
        known = np.isfinite(held)
        for axis, lines in enumerate(box.slices):
            others = tuple(i for i in range(held.ndim) if i != axis + 1)
            self._totals[axis][lines] += np.nansum(held, axis=others, dtype=np.float64)
            self._counts[axis][lines] += known.sum(axis=others)

    def worst_on(self, axis: int) -> Seam | None:
        """The line that steps most on an axis, or None where it has too few lines to tell."""
        beside = self._beside[axis]
        # As many lines at either end of the image do not count: no tile ends there, and networks and degradations each
        # go on in their own way.
        inner = slice(beside, len(self._totals[axis]) - beside)
        if inner.stop < inner.start + (2 + _FEWEST) * beside:
            return None
        totals, counts = (_sums(values[axis][inner], beside) for values in (self._totals, self._counts))
        least = np.minimum(counts[beside:], counts[:-beside])
        if not least.any():
            return None
        means = np.divide(totals, counts, out=np.zeros(len(totals)), where=counts > 0)
        # Place i of these is the mean of the lines from i on: before line k it steps by that of k less k - beside.
        step = means[beside:] - means[:-beside]
        away = np.abs(step) * np.sqrt(np.minimum(least / float(np.median(least[least > 0])), 1.0))
        spread = max(1.4826 * float(np.median(away[least > 0])), _LEAST)
        place = int(np.argmax(away))
        return Seam(axis, inner.start + place + beside, float(step[place]), float(away[place] / spread))


def _sums(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The sum of each run of `width` values."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[width:] - running[:-width])
