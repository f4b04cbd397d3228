"""The coarser levels of an image, each the area mean of the one before it: read, reduced and written block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Voxels
from geomedsr.io._coding import Coding

__all__ = ["area_mean", "build_pyramid", "channel_windows"]

_MOST_VOXELS = 1 << 21
"""Of the finer level that are in memory at once."""


def build_pyramid(arrays: Sequence[zarr.Array[Any]], lead: int, coding: Coding) -> None:
    """Fills all arrays but the first, which is the finest; the first `lead` axes are those of channels."""
    for fine, coarse in pairwise(arrays):
        shape = coarse.shape[lead:]
        factor = tuple(-(-n // m) for n, m in zip(fine.shape[lead:], shape, strict=True))
        for index in np.ndindex(*coarse.shape[:lead]):
            for box in Box.whole(shape).split((coarse.shards or coarse.chunks)[lead:]):
                coarse[(*index, *box.slices)] = _reduced(fine, index, box, factor, coding)


def _reduced(fine: zarr.Array[Any], index: tuple[Any, ...], box: Box, factor: Factor, coding: Coding) -> NDArray[Any]:
    """One object of the coarser level, as it is stored, made piece by piece."""
    stored = np.empty(box.shape, coding.dtype)
    for part in box.split(_piece(box.shape, factor)):
        inner = part.scaled(factor).clipped(fine.shape[len(index) :])
        voxels = coding.physical(np.asarray(fine[(*index, *inner.slices)]))
        stored[part.relative_to(box.start).slices] = coding.store(area_mean(voxels, factor))
    return stored


def _piece(shape: Shape, factor: Factor) -> Shape:
    """A block of the coarser level that is made at once: halved until what it is made of is little enough."""
    piece = list(shape)
    while np.prod(piece) * np.prod(factor) > _MOST_VOXELS and max(piece) > 1:
        longest = piece.index(max(piece))
        piece[longest] = -(-piece[longest] // 2)
    return tuple(piece)


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
