"""What a picture shows of an image: which plane, which way round, how bright, and where its finest detail is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor, Grid
from geomedsr.image import ImageSpec, Source, Voxels

__all__ = ["Pixels", "Stretch", "View", "enlarged", "most_detailed", "read_plane", "views"]

Pixels = NDArray[np.uint8]
"""(rows, columns, 3), red, green and blue."""

INVALID = (58, 40, 70)
_BUDGET = 1 << 23


@dataclass(frozen=True, slots=True)
class View:
    """Which axes are drawn as rows and as columns, which axis is cut, and which drawn axes are turned round.

    `ends` names the body's sides at the top, bottom, left and right where the file says them (R is the patient's
    right, drawn on the left as radiologists do), else it is None.
    """

    rows: int
    columns: int
    cut: int | None = None
    turned: tuple[bool, bool] = (False, False)
    ends: tuple[str, str, str, str] | None = None

    @classmethod
    def of(cls, spec: ImageSpec, factor: Factor) -> View:
        """The plane that shows most of what became finer: it cuts the axis of the smallest factor.

        Of several such axes it cuts the one of the widest spacing, and of those the last; but an axis of one voxel
        before any other.
        """
        grid = spec.grid
        if grid.ndim == 2:
            return cls(0, 1)
        flat = [n == 1 for n in grid.shape]
        cut = max(range(grid.ndim), key=lambda a: (flat[a], -factor[a], round(grid.spacing[a], 6), a))
        rows, columns = (axis for axis in range(grid.ndim) if axis != cut)
        # Only NIfTI says where its world axes point: right, front and up.
        return _anatomical(grid, rows, columns, cut) if "nifti" in spec.extra else cls(rows, columns, cut)

    def counts(self, grid: Grid) -> tuple[int, int]:
        """The number of voxels down and across."""
        return grid.shape[self.rows], grid.shape[self.columns]

    def spacing(self, grid: Grid) -> tuple[float, float]:
        """The spacing down and across."""
        return grid.spacing[self.rows], grid.spacing[self.columns]

    def window(self, box: Box) -> Box:
        """The drawn axes of a box: rows, columns."""
        return Box((box.start[self.rows], box.start[self.columns]), (box.stop[self.rows], box.stop[self.columns]))

    def box(self, window: Box, at: int) -> Box:
        """The box of the image that a window (rows, columns) of the plane `at` covers."""
        start, stop = [at] * (2 if self.cut is None else 3), [at + 1] * (2 if self.cut is None else 3)
        for axis, a, b in zip((self.rows, self.columns), window.start, window.stop, strict=True):
            start[axis], stop[axis] = a, b
        return Box(tuple(start), tuple(stop))

    def oriented(self, pixels: Pixels) -> Pixels:
        """The pixels as they are looked at."""
        return pixels[:: -1 if self.turned[0] else 1, :: -1 if self.turned[1] else 1]


def views(spec: ImageSpec) -> list[View]:
    """The planes of a volume, one for each axis that can be cut; for NIfTI axial, coronal and sagittal."""
    drawn = [(cut, *(axis for axis in range(3) if axis != cut)) for cut in range(3)]
    if "nifti" not in spec.extra:
        return [View(rows, columns, cut) for cut, rows, columns in drawn]
    found = [_anatomical(spec.grid, rows, columns, cut) for cut, rows, columns in drawn]
    return sorted(found, key=lambda view: ("AR", "SR", "SA").index(view.ends[0] + view.ends[2] if view.ends else "AR"))


def _anatomical(grid: Grid, rows: int, columns: int, cut: int) -> View:
    """The view with the front or the top of the body up, and its right or its front on the left."""
    cosines = grid.matrix[:3, :3] / np.array(grid.spacing)
    world = max(permutations(range(3)), key=lambda order: sum(abs(cosines[order[axis], axis]) for axis in range(3)))
    if world[rows] < world[columns]:
        rows, columns = columns, rows
    # Up and left are the positive ends of the world's axes in all three planes.
    turned = (bool(cosines[world[rows], rows] > 0), bool(cosines[world[columns], columns] > 0))
    ends = ("RAS"[world[rows]], "LPI"[world[rows]], "RAS"[world[columns]], "LPI"[world[columns]])
    return View(rows, columns, cut, turned, ends)


def read_plane(
    source: Source, view: View, at: int, channels: tuple[int, ...], window: Box, longest: int
) -> tuple[Voxels, int]:
    """A window of a plane with at most `longest` voxels on a side, and how many voxels were averaged for each.

    It is read strip by strip, so that no more than a few million voxels are held at once.

    Shape: (len(channels), rows, columns)
    """
    step = max(1, math.ceil(max(window.shape) / longest))
    budget = _BUDGET // (len(source.spec.channels) * window.shape[1])
    parts = window.split((step * max(1, budget // step), window.shape[1]))
    strips = [_averaged(_strip(source, view, at, part, channels), step) for part in parts]
    return np.concatenate(strips, axis=1), step


def _strip(source: Source, view: View, at: int, window: Box, channels: tuple[int, ...]) -> Voxels:
    voxels = source.read(view.box(window, at))[list(channels)]
    if view.cut is not None:
        voxels = voxels.squeeze(view.cut + 1)
    return voxels.swapaxes(1, 2) if view.rows > view.columns else voxels


def _averaged(voxels: Voxels, step: int) -> Voxels:
    """The mean of the valid voxels in each block of `step`; a block at the end may be smaller."""
    if step == 1:
        return voxels
    valid = np.isfinite(voxels)
    total, count = (
        np.add.reduceat(np.add.reduceat(part, range(0, part.shape[1], step), 1), range(0, part.shape[2], step), 2)
        for part in (np.where(valid, voxels, 0), valid.astype(np.float32))
    )
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Stretch:
    """From physical values to brightness: each channel's `low` is black and its `high` is full."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fit(cls, voxels: Voxels, lower: float, upper: float) -> Stretch:
        """The stretch between two percentiles of the valid voxels of each channel."""
        ends = [_percentiles(channel[np.isfinite(channel)], lower, upper) for channel in voxels]
        return cls(tuple(low for low, _ in ends), tuple(high for _, high in ends))

    def brightness(self, voxels: Voxels) -> Voxels:
        """The channels between 0 and 1; invalid voxels stay NaN."""
        low, high = (np.array(end, dtype=np.float32)[:, None, None] for end in (self.low, self.high))
        return np.asarray(np.clip((voxels - low) / (high - low), 0, 1), dtype=np.float32)

    def pixels(self, voxels: Voxels) -> Pixels:
        """The voxels as a picture: one channel is grey, three are red, green and blue; invalid voxels are violet."""
        bright = self.brightness(voxels)
        grey_or_colour = np.broadcast_to(np.nan_to_num(bright), (3, *bright.shape[1:]))
        picture: Pixels = np.rint(255 * grey_or_colour.transpose(1, 2, 0)).astype(np.uint8)
        picture[~np.isfinite(bright).all(axis=0)] = INVALID
        return picture


def _percentiles(values: Voxels, lower: float, upper: float) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (lower, upper)))
    return (low, high) if high > low else (low, low + 1.0)


def enlarged(pixels: Pixels, height: int, width: int) -> Pixels:
    """The picture at another size, each pixel that of the nearest one."""
    rows = (np.arange(height) + 0.5) * pixels.shape[0] // height
    columns = (np.arange(width) + 0.5) * pixels.shape[1] // width
    return np.asarray(pixels[rows.astype(np.intp)][:, columns.astype(np.intp)], dtype=np.uint8)


def most_detailed(bright: Voxels, size: tuple[int, int]) -> tuple[int, int]:
    """Where the window of `size` with the most gradient energy in every direction starts.

    It is judged by the smaller eigenvalue of the window's structure tensor, so that folds win over one hard edge, and
    a voxel counts no more than the 90th percentile of all. Windows without invalid voxels come first.

    Reference: J. Shi, C. Tomasi, Good features to track, 1994, doi:10.1109/CVPR.1994.323794.
    """
    grey = bright.mean(axis=0)
    valid = np.isfinite(grey)
    down, across = (np.nan_to_num(np.gradient(grey, axis=a)) if grey.shape[a] > 1 else 0 * grey for a in (0, 1))
    energy = np.nan_to_num(down**2 + across**2)
    limit = float(np.percentile(energy[valid], 90)) if valid.any() else 0.0
    damping = np.minimum(1, limit / np.maximum(energy, 1e-12))
    a, b, c = (_sums(damping * np.nan_to_num(part), size) for part in (down**2, down * across, across**2))
    smaller = (a + c) / 2 - np.sqrt(((a - c) / 2) ** 2 + b**2)
    score = smaller - size[0] * size[1] * limit * _sums((~valid).astype(np.float32), size)
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return int(row), int(column)


def _sums(values: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float64]:
    """The sum over each window of `size`."""
    padded = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = size
    corners = padded[height:, width:] - padded[:-height, width:] - padded[height:, :-width] + padded[:-height, :-width]
    return np.asarray(corners)
