"""Sums over windows of an image, in which one invalid voxel (NaN) makes a whole window invalid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["averaged", "filtered", "gaussian"]


def gaussian(sigma: float, radius: int) -> NDArray[np.float64]:
    """Gaussian taps that sum to 1, from -radius to radius."""
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def filtered(x: NDArray[np.float64], axis: int, taps: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation of one axis with taps, where they lie wholly inside: shorter by their number less one."""
    length = x.shape[axis] - len(taps) + 1
    total: NDArray[np.float64] | None = None
    for k, tap in enumerate(taps):
        index = [slice(None)] * x.ndim
        index[axis] = slice(k, k + length)
        part = tap * x[tuple(index)]
        total = part if total is None else total + part
    assert total is not None
    return total


def averaged(x: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Means of blocks of `size` voxels on each spatial axis; what is left over at the far ends is dropped.

    Shape: (C, *S) to (C, *(S // size))
    """
    for axis in range(1, x.ndim):
        kept = x.shape[axis] // size
        index = [slice(None)] * x.ndim
        index[axis] = slice(0, kept * size)
        shape = (*x.shape[:axis], kept, size, *x.shape[axis + 1 :])
        x = x[tuple(index)].reshape(shape).mean(axis=axis + 1)
    return x
