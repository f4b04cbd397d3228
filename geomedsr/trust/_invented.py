"""Where an output has structures that its input has not: groups of voxels that degrade to something else.

Of the residual (degraded output less input) the median over three input voxels on each refined axis is taken, so that
only what is as large as that is left: a glint at which the sensor itself rang, one voxel wide, is no structure. It is
held against what is usual where the input is as busy: the spread of the residual in classes of the input's local
contrast, each by its median absolute deviation, so that edges, at which every network errs, are compared with edges.
Beyond the busiest class, where sensors saturate and ring, it is taken to grow with the square of the contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor
from geomedsr.image import Voxels

__all__ = ["Invented", "contrast", "invented"]

_SIGMA = 1.5
_CLASSES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.998, 0.999)
"""The shares of the voxels that are less busy than each class: finer where few are."""

_FEWEST = 30
_LEAST = 2e-3
"""What is usual is at least this share of the range, so that nothing is called a structure that nobody could see."""


@dataclass(frozen=True, slots=True)
class Invented:
    """The place that degrades least like the input: how far from usual, where, and by what share of the range."""

    score: float
    place: tuple[int, ...]
    height: float
    channel: int


def contrast(y: Voxels, factor: Factor, ranges: NDArray[np.float64]) -> Voxels:
    """How busy the input is around each voxel: the standard deviation in a Gaussian window, over the range.

    That of the busiest channel: a network looks at all of them, and a glint in one may err in another.

    Shape: (C, *S) to (1, *S)
    """
    from scipy import ndimage

    sigma = (0.0, *(_SIGMA if f > 1 else 0.0 for f in factor))
    known = np.isfinite(y)
    weight = np.maximum(ndimage.gaussian_filter(known.astype(np.float32), sigma), 1e-6)
    filled = np.where(known, y, np.float32(0)).astype(np.float64)
    mean, square = (ndimage.gaussian_filter(z, sigma) / weight for z in (filled, filled**2))
    spread = np.sqrt(np.maximum(square - mean**2, 0)) / ranges.reshape(-1, *[1] * len(factor))
    return np.asarray(spread.max(axis=0, keepdims=True), dtype=np.float32)


def invented(residual: Voxels, busy: Voxels, factor: Factor, ranges: NDArray[np.float64]) -> Invented | None:
    """The place of the largest residual against what is usual; None where nothing is known.

    Shape: residual (C, *S) on the input's grid, NaN where invalid; busy (1, *S)
    """
    found = [
        _of_channel(channel, residual[channel], busy[0], factor, float(ranges[channel]))
        for channel in range(len(residual))
    ]
    return max((one for one in found if one is not None), key=lambda one: one.score, default=None)


def _of_channel(
    channel: int, residual: NDArray[np.float32], busy: NDArray[np.float32], factor: Factor, span: float
) -> Invented | None:
    from scipy import ndimage

    known = np.isfinite(residual)
    if known.sum() < 4 * _FEWEST:
        return None
    smooth = ndimage.median_filter(np.where(known, residual, np.float32(0)), [3 if f > 1 else 1 for f in factor])
    usual = _usual(smooth, busy, known)
    score = np.where(known, np.abs(smooth) / np.maximum(usual, _LEAST * span), 0)
    place = tuple(int(i) for i in np.unravel_index(int(score.argmax()), score.shape))
    return Invented(float(score[place]), place, float(smooth[place]) / span, channel)


def _usual(smooth: NDArray[np.float32], busy: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The spread of the residual where the input is as busy as at each voxel, never falling as it gets busier."""
    size, busy_there = np.abs(smooth[known]), busy[known]
    kinds = np.searchsorted(np.unique(np.quantile(busy_there, _CLASSES)), busy_there)
    found = [(busy_there[kind == kinds], size[kind == kinds]) for kind in np.unique(kinds)]
    rows = [(np.median(level), 1.4826 * np.median(sizes)) for level, sizes in found if len(sizes) >= _FEWEST]
    levels, spreads = (np.array(column) for column in zip(*rows, strict=True))
    spreads = np.maximum.accumulate(spreads)
    beyond = spreads[-1] * (busy / max(float(levels[-1]), 1e-12)) ** 2
    return np.asarray(np.where(busy > levels[-1], beyond, np.interp(busy, levels, spreads)))
