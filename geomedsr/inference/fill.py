"""Invalid voxels filled from their valid neighbours, in steps of one voxel: a tile gives what the whole image would."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor, Shape
from geomedsr.image import Voxels

__all__ = ["REACH", "fill", "spread"]

REACH = 8
"""How many steps are taken: an invalid voxel is filled from valid ones at most so many voxels away."""


def fill(voxels: Voxels, axes: tuple[int, ...], steps: int = REACH) -> Voxels:
    """The voxels with what is not finite replaced: near valid ones by their mean, elsewhere by 0.

    In each step every invalid voxel that touches a valid one (along `axes`, corners count) becomes their mean. The
    sum is taken in one fixed order, so the result does not depend on where the array was cut, as long as `steps`
    voxels around what matters are in it. Only the front of each step is visited.

    Shape: (C, *S) to the same; `axes` count the spatial axes.
    """
    width = [(1, 1) if axis - 1 in axes else (0, 0) for axis in range(voxels.ndim)]
    padded = np.pad(voxels, width, constant_values=np.nan)
    valid = np.isfinite(padded)
    flat, known = padded.reshape(-1), valid.reshape(-1)
    known_shape = valid.shape
    offsets = _offsets(known_shape, axes)
    inner = np.zeros(known_shape, bool)
    inside = tuple(slice(a, n - b) for (a, b), n in zip(width, known_shape, strict=True))
    inner[inside] = True
    for _ in range(steps):
        front = np.flatnonzero(_touched(known.reshape(known_shape), axes) & ~known.reshape(known_shape) & inner)
        if front.size == 0:
            break
        total = np.zeros(front.size, np.float32)
        count = np.zeros(front.size, np.float32)
        for offset in offsets:
            near = front + offset
            total += np.where(known[near], flat[near], np.float32(0))
            count += known[near]
        flat[front] = total / count
        known[front] = True
    padded[~valid] = 0
    return np.ascontiguousarray(padded[inside])


def _offsets(shape: Shape, axes: tuple[int, ...]) -> list[int]:
    strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    moves = product(*[(-1, 0, 1) if axis - 1 in axes else (0,) for axis in range(len(shape))])
    return [offset for move in moves if (offset := sum(m * s for m, s in zip(move, strides, strict=True)))]


def _touched(valid: NDArray[np.bool_], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a valid voxel is at most one voxel away."""
    near = valid.copy()
    for axis in axes:
        before, after = [slice(None)] * valid.ndim, [slice(None)] * valid.ndim
        before[axis + 1], after[axis + 1] = slice(None, -1), slice(1, None)
        grown = near.copy()
        grown[tuple(after)] |= near[tuple(before)]
        grown[tuple(before)] |= near[tuple(after)]
        near = grown
    return near


def spread(mask: NDArray[np.bool_], factor: Factor) -> NDArray[np.bool_]:
    """A mask on the finer grid: each voxel stands for the `factor` voxels that it covers.

    Shape: (C, *S) to (C, *(S * factor))
    """
    for axis, f in enumerate(factor, start=1):
        mask = np.repeat(mask, f, axis)
    return mask
