"""Whether tiles left seams: lines across the image at which the output steps and the input does not.

The input, interpolated, is taken from the output; what is left are the output's own details, which have no reason to
step at one line more than at its neighbours. The figure of a line is the mean of the steps from the voxels before it
to those behind it, held at 2 % of the range so that edges do not rule, over the spread of that mean among all lines of
its kind (lines at the same place within an input voxel: a network may well treat these alike).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor, Shape
from geomedsr.image import Voxels
from geomedsr.trust._aligned import Block

__all__ = ["HALO", "Seam", "Seams"]

HALO = 3
"""How many input voxels around a block the interpolation needs to be that of the whole image."""

_CLIP = 0.02
_FEWEST = 8
_LEAST = 1e-4
"""Means of steps vary at least by this share of the range, so that nothing is called a seam that nobody could see."""

_BORDER = 4
"""Input voxels at the image's ends that are left out: no tile ends there, and networks pad."""


@dataclass(frozen=True, slots=True)
class Seam:
    """The line that steps most: before which voxel of which axis, by what share of the range, how far from usual."""

    axis: int
    place: int
    step: float
    score: float


class Seams:
    """Sums over blocks of the steps across each line of each axis."""

    def __init__(self, shape: Shape, factor: Factor, ranges: NDArray[np.float64]) -> None:
        self._factor, self._ranges = factor, ranges
        fine = [n * f for n, f in zip(shape, factor, strict=True)]
        self._totals = [np.zeros(n) for n in fine]
        self._counts = [np.zeros(n) for n in fine]

    def add(self, block: Block, smooth: Voxels) -> None:
        """Takes a block with its rim, and the input's interpolation there."""
        scale = self._ranges.reshape(-1, *[1] * (block.x.ndim - 1))
        own = (block.x - smooth) / scale
        inner = block.inner_fine
        for axis in range(len(self._factor)):
            here = inner[axis + 1]
            first = max(here.start, 1)
            ahead, behind = list(inner), list(inner)
            ahead[axis + 1], behind[axis + 1] = slice(first, here.stop), slice(first - 1, here.stop - 1)
            steps = np.clip(own[tuple(ahead)] - own[tuple(behind)], -_CLIP, _CLIP)
            others = tuple(i for i in range(steps.ndim) if i != axis + 1)
            start = (block.wide.start[axis] * self._factor[axis]) + first
            lines = slice(start, start + steps.shape[axis + 1])
            self._totals[axis][lines] += np.nansum(steps, axis=others, dtype=np.float64)
            self._counts[axis][lines] += np.isfinite(steps).sum(axis=others)

    @property
    def worst(self) -> Seam | None:
        """The line that steps most, or None where an axis has too few lines to tell."""
        found = [seam for axis in range(len(self._factor)) if (seam := self._worst_on(axis)) is not None]
        return max(found, key=lambda seam: seam.score, default=None)

    def _worst_on(self, axis: int) -> Seam | None:
        counts = self._counts[axis]
        means = np.divide(self._totals[axis], counts, out=np.full(counts.size, np.nan), where=counts > 0)
        score = np.zeros(counts.size)
        border = _BORDER * self._factor[axis]
        for phase in range(self._factor[axis]):
            kind = slice(border + phase, counts.size - border, self._factor[axis])
            score[kind] = _unusual(means[kind], counts[kind])
        place = int(np.argmax(score))
        return Seam(axis, place, float(means[place]), float(score[place])) if score[place] > 0 else None


def _unusual(means: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each mean is from the usual one, in robust standard deviations; a mean of few voxels varies more."""
    known = np.isfinite(means)
    if known.sum() < _FEWEST:
        return np.zeros(means.size)
    away = np.abs(means - np.median(means[known]))
    spread = max(1.4826 * float(np.median(away[known])), _LEAST)
    weight = np.sqrt(np.minimum(counts / float(np.median(counts[known])), 1.0))
    return np.where(known, np.nan_to_num(away) * weight / spread, 0.0)
