"""The coarser levels of an image, each the area mean of the one before it: read, reduced and written block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor
from geomedsr.image import Voxels
from geomedsr.io._coding import Coding

__all__ = ["area_mean", "build_pyramid", "channel_windows"]

_MOST_VOXELS = 1 << 24
"""Of a block that is in memory at once."""


def build_pyramid(arrays: Sequence[zarr.Array[Any]], lead: int, coding: Coding) -> None:
    """Fills all arrays but the first, which is the finest; the first `lead` axes are those of channels."""
    for fine, coarse in pairwise(arrays):
        shape = coarse.shape[lead:]
        factor = tuple(-(-n // m) for n, m in zip(fine.shape[lead:], shape, strict=True))
        for index in np.ndindex(*coarse.shape[:lead]):
            for box in Box.whole(shape).split(_block(coarse, lead, factor)):
                inner = box.scaled(factor).clipped(fine.shape[lead:])
                mean = area_mean(coding.physical(np.asarray(fine[(*index, *inner.slices)])), factor)
                coarse[(*index, *box.slices)] = coding.store(mean)


def channel_windows(array: zarr.Array[Any], lead: int, nodata: float | None) -> list[dict[str, float]]:
    """The range of each channel's stored numbers as `omero` tells it: all of them, and what to show of them."""
    windows = []
    for index in np.ndindex(*array.shape[:lead]):
        stored = np.asarray(array[index]).astype(np.float64)
        valid = stored[np.isfinite(stored) & (stored != (math.nan if nodata is None else nodata))]
        valid = valid if valid.size else np.zeros(1)
        start, end = np.percentile(valid, (1, 99))
        ends = {"min": float(valid.min()), "max": float(valid.max()), "start": float(start), "end": float(end)}
        windows.append(ends)
    return windows


def _block(coarse: zarr.Array[Any], lead: int, factor: Factor) -> tuple[int, ...]:
    """A block of whole objects of the coarser level: several chunks where they are small."""
    block = list((coarse.shards or coarse.chunks)[lead:])
    while np.prod(block) * np.prod(factor) * 2 <= _MOST_VOXELS:
        open_axes = [axis for axis, n in enumerate(block) if n < coarse.shape[lead + axis]]
        if not open_axes:
            break
        block[min(open_axes, key=lambda axis: block[axis])] *= 2
    return tuple(block)


def area_mean(voxels: Voxels, factor: Factor) -> Voxels:
    """The mean of the valid voxels of each block of `factor`; invalid where there is none.

    Shape: (*S) to (ceil(S / factor)); what is missing in the last blocks counts as invalid.

    Example:
        >>> area_mean(np.array([[1.0, np.nan, 5.0]], np.float32), (1, 2)).tolist()
        [[1.0, 5.0]]
    """
    beyond = [(0, -n % f) for n, f in zip(voxels.shape, factor, strict=True)]
    padded = np.pad(voxels, beyond, constant_values=np.nan)
    pairs = [side for n, f in zip(padded.shape, factor, strict=True) for side in (n // f, f)]
    blocks = padded.reshape(pairs)
    axes = tuple(range(1, 2 * len(factor), 2))
    valid: NDArray[np.bool_] = ~np.isnan(blocks)
    count = valid.sum(axis=axes)
    total = np.where(valid, blocks, 0).sum(axis=axes, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float32)
