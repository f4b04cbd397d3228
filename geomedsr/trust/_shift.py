"""Whether an output lies where its input does: by how much its coarse average would have to be moved to fit.

The estimate is that of Lucas and Kanade: the displacement d that explains the difference of two images best by their
gradient, in the least squares over all blocks. Unlike a phase correlation it takes invalid voxels and odd sizes in its
stride, needs one block at a time, and is exact to thousandths of a voxel where displacements are small. Differences
that are no displacement, such as a sharper image, cancel: they have no direction.

Reference: Lucas and Kanade 1981, "An iterative image registration technique with an application to stereo vision",
IJCAI, pages 674 to 679
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.image import Voxels

__all__ = ["Shift"]

_LONGEST_TAIL = 4.0
_FLAT = 1e-6
_WIDE = 8
"""From so many voxels on slopes are taken over four neighbours, which are true to finer detail than two."""


class Shift:
    """Sums over blocks of which the displacement is solved; channels count by their `ranges`."""

    def __init__(self, ndim: int, ranges: NDArray[np.float64]) -> None:
        self._gram, self._right = np.zeros((ndim, ndim)), np.zeros(ndim)
        self._scales = ranges**2
        self._rest, self._count = 0.0, 0

    def add(self, coarse: Voxels, y: Voxels) -> None:
        """Takes a block: the output's average, and the input.

        Shape: (C, *S) both
        """
        for a, b, scale in zip(coarse.astype(np.float64), y.astype(np.float64), self._scales, strict=True):
            self._add(a, b, float(scale))

    def _add(self, a: NDArray[np.float64], b: NDArray[np.float64], scale: float) -> None:
        rims = [2 if n >= _WIDE else 1 if n >= 3 else 0 for n in a.shape]
        axes = [axis for axis, rim in enumerate(rims) if rim]
        inner = tuple(slice(rim, n - rim) for rim, n in zip(rims, a.shape, strict=True))
        middle, difference = (a + b) / 2, (b - a)[inner]
        slopes = [_slope(middle, axis, inner) for axis in axes]
        known = np.logical_and.reduce([np.isfinite(part) for part in (difference, *slopes)])
        if known.sum() < 8 * (len(axes) + 1) or not axes:
            return
        rest = difference[known] - np.median(difference[known])
        # A few voxels that differ for other reasons are not to pull.
        width = _LONGEST_TAIL * float(np.sqrt(np.mean(rest**2)))
        rest = np.clip(rest, -width, width)
        rows = np.stack([slope[known] for slope in slopes])
        self._gram[np.ix_(axes, axes)] += rows @ rows.T / scale
        self._right[axes] += rows @ rest / scale
        self._rest += float(rest @ rest) / scale
        self._count += rest.size

    @property
    def voxels(self) -> NDArray[np.float64]:
        """How far the output lies from the input on each axis, in voxels of the input; NaN where it is all flat."""
        found, axes = np.full(len(self._right), np.nan), self._axes
        if axes.size:
            found[axes] = np.linalg.lstsq(self._gram[np.ix_(axes, axes)], self._right[axes], rcond=None)[0]
        return found

    @property
    def doubt(self) -> NDArray[np.float64]:
        """The standard deviation of `voxels`, as far as the differences are noise; NaN where it is all flat."""
        found, axes = np.full(len(self._right), np.nan), self._axes
        if axes.size:
            inverse = np.linalg.pinv(self._gram[np.ix_(axes, axes)], hermitian=True)
            found[axes] = np.sqrt(np.maximum(np.diag(inverse), 0) * self._rest / max(self._count, 1))
        return found

    @property
    def _axes(self) -> NDArray[np.intp]:
        """The axes on which the images are not flat."""
        diagonal = np.diag(self._gram)
        return np.flatnonzero(diagonal > _FLAT * max(float(diagonal.max(initial=0)), 1e-12))


def _slope(x: NDArray[np.float64], axis: int, inner: tuple[slice, ...]) -> NDArray[np.float64]:
    """The derivative along an axis, where the neighbours that it needs are inside."""

    def moved(by: int) -> NDArray[np.float64]:
        index = list(inner)
        index[axis] = slice(inner[axis].start + by, inner[axis].stop + by)
        return x[tuple(index)]

    if inner[axis].start == 1:
        return (moved(1) - moved(-1)) / 2
    return (8 * (moved(1) - moved(-1)) - moved(2) + moved(-2)) / 12
