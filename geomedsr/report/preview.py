"""A box of an image at a size that a page can hold, read with little memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geomedsr.grid import Box, Grid, Shape
from geomedsr.image import Source, Voxels

__all__ = ["Preview", "preview", "step_for"]

_BUDGET = 1 << 23


@dataclass(frozen=True)
class Preview:
    """What is shown of an image: a box of it, each voxel the mean of a block of `step` voxels.

    Shape: `voxels` is (C, *S)
    """

    voxels: Voxels
    box: Box
    step: Shape
    grid: Grid

    @property
    def span(self) -> tuple[float, ...]:
        """How far the voxels reach, as a share of the box; above 1 where the last block is ragged."""
        sizes = zip(self.voxels.shape[1:], self.step, self.box.shape, strict=True)
        return tuple(count * step / length for count, step, length in sizes)


def step_for(shape: Shape, most: int) -> Shape:
    """The least step, alike on every axis that is long enough, that leaves at most `most` voxels.

    Example:
        >>> step_for((100, 200), 5000), step_for((1, 4000), 1000)
        ((2, 2), (1, 4))
    """
    step = 1
    while math.prod(-(-n // min(step, n)) for n in shape) > most:
        step += 1
    return tuple(min(step, n) for n in shape)


def preview(source: Source, box: Box, step: Shape, channels: tuple[int, ...]) -> Preview:
    """A box of some channels of an image with each block of `step` voxels averaged; a block at the end may be smaller.

    It is read part by part, so that no more than a few million voxels are held beside the result. Invalid voxels do
    not count; a block of nothing else is invalid.
    """
    counts = tuple(-(-n // s) for n, s in zip(box.shape, step, strict=True))
    voxels = np.full((len(channels), *counts), np.nan, dtype=np.float32)
    for part in box.split(_part(box.shape, step, _BUDGET // len(source.spec.channels))):
        start = tuple((a - b) // s for a, b, s in zip(part.start, box.start, step, strict=True))
        stop = tuple(-(-(a - b) // s) for a, b, s in zip(part.stop, box.start, step, strict=True))
        voxels[(slice(None), *Box(start, stop).slices)] = _averaged(source.read(part)[list(channels)], step)
    grid = source.spec.grid.cropped(box)
    whole = tuple(n * s for n, s in zip(counts, step, strict=True))
    return Preview(voxels, box, step, grid.with_shape(whole).downscaled(step))


def _part(shape: Shape, step: Shape, budget: int) -> Shape:
    """What to read at once: whole blocks, in the order in which most files hold their voxels."""
    part = list(shape)
    for axis in range(len(shape)) if len(shape) == 2 else reversed(range(len(shape))):
        others = math.prod(part) // part[axis]
        part[axis] = min(part[axis], max(1, budget // (others * step[axis])) * step[axis])
    return tuple(part)


def _averaged(voxels: Voxels, step: Shape) -> Voxels:
    if max(step) == 1:
        return voxels
    valid = np.isfinite(voxels)
    total, count = np.where(valid, voxels, 0).astype(np.float64), valid.astype(np.float64)
    for axis, size in enumerate(step, start=1):
        places = range(0, voxels.shape[axis], size)
        total, count = (np.add.reduceat(part, places, axis) for part in (total, count))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float32)
