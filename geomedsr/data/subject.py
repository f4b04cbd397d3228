"""A training image as patches see it: its axes, its intensity map, and the mask or true coarse image beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geomedsr.data.intensity import Intensity, IntensityRule, sample_boxes
from geomedsr.errors import GridError, RecipeError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Source, Voxels

__all__ = ["Subject", "check_content", "check_pair", "planar_axes", "prepare"]


def planar_axes(spacing: Sequence[float], shape: Shape) -> tuple[int, int]:
    """The two axes of a volume that its slices lie in.

    The third is one of a single voxel, where there is one (a plane kept as a volume says nothing true about that
    axis's spacing), else the one of the largest spacing; of equals the last.

    Example:
        >>> planar_axes((0.9, 3.0, 0.9), (64, 20, 64))
        (0, 2)
        >>> planar_axes((1.7, 1.7, 1.0), (40, 36, 1))
        (0, 1)
    """
    across = max(range(len(spacing)), key=lambda axis: (shape[axis] == 1, round(spacing[axis], 4), axis))
    first, second = (axis for axis in range(len(spacing)) if axis != across)
    return first, second


@dataclass(frozen=True)
class Subject:
    """A source, the axes that a patch spans on it, and its intensity map.

    `coarse` is the same place as a coarser instrument saw it (None: a degradation makes it up). `mask` is not 0 where
    the image may be learnt from (None: everywhere). `weight` is its share of the patches (None: as it has voxels).
    """

    name: str
    source: Source
    axes: tuple[int, ...]
    intensity: Intensity
    coarse: Subject | None = None
    mask: Source | None = None
    weight: float | None = None

    @property
    def shape(self) -> Shape:
        """The voxels on the axes that a patch spans."""
        return tuple(self.source.spec.grid.shape[axis] for axis in self.axes)

    @property
    def planes(self) -> Shape:
        """How many places there are on the axes that a patch does not span."""
        shape = self.source.spec.grid.shape
        return tuple(n for axis, n in enumerate(shape) if axis not in self.axes)

    @property
    def share(self) -> float:
        """How much of the training it is, beside the other subjects."""
        return float(math.prod(self.source.spec.grid.shape)) if self.weight is None else self.weight

    def box(self, start: Shape, stop: Shape, plane: Shape) -> Box:
        """The box that spans [start, stop) on `axes`, and is one voxel thick at `plane` on the others."""
        ndim = self.source.spec.grid.ndim
        others = iter(plane)
        low, high = list(range(ndim)), list(range(ndim))
        for axis in range(ndim):
            if axis in self.axes:
                low[axis], high[axis] = start[self.axes.index(axis)], stop[self.axes.index(axis)]
            else:
                low[axis] = next(others)
                high[axis] = low[axis] + 1
        return Box(tuple(low), tuple(high))

    def read(self, start: Shape, stop: Shape, plane: Shape) -> Voxels:
        """The voxels in the network's units; the axes that a patch does not span are gone.

        Shape: (C, *(stop - start))
        """
        return self._flat(self.intensity.apply(self.source.read(self.box(start, stop, plane))))

    def read_coarse(self, start: Shape, stop: Shape, plane: Shape, factor: Factor) -> Voxels | None:
        """The true coarse voxels of the same place, or None where there is no coarse image.

        Shape: (C, *((stop - start) / factor))
        """
        if self.coarse is None:
            return None
        return self.coarse.read(_divided(start, factor), _divided(stop, factor), plane)

    def inside(self, start: Shape, stop: Shape, plane: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
        """Which voxels the mask lets through, or None where there is no mask.

        Shape: (1, *(stop - start))
        """
        if self.mask is None:
            return None
        voxels = self._flat(self.mask.read(self.box(start, stop, plane)))
        return np.asarray(np.nan_to_num(voxels).any(axis=0, keepdims=True))

    def _flat(self, voxels: Voxels) -> Voxels:
        flat = tuple(1 + axis for axis in range(voxels.ndim - 1) if axis not in self.axes)
        return np.squeeze(voxels, flat)


def prepare(name: str, source: Source, ndim: int, rule: IntensityRule, axes: tuple[int, ...] | None) -> Subject:
    """A subject for patches of `ndim` axes.

    Raises:
        RecipeError: the image has fewer axes than the task, or not those that are asked for.
    """
    grid = source.spec.grid
    if grid.ndim < ndim:
        raise RecipeError(f"The recipe's factor has {ndim} numbers; {name} has {grid.ndim} axes.")
    if grid.ndim == ndim:
        axes = tuple(range(ndim))
    if axes is not None and [*axes] != sorted({axis for axis in axes if 0 <= axis < grid.ndim}):
        raise RecipeError(
            f"axes: {[*axes]} are not {ndim} axes of {name}; give {ndim} different ones of 0 to {grid.ndim - 1}, the "
            "smaller first."
        )
    return Subject(name, source, axes or planar_axes(grid.spacing, grid.shape), rule.fit(source))


def check_content(subject: Subject) -> None:
    """Refuses an image that has nothing to learn from: no valid voxel, or one value everywhere.

    Raises:
        RecipeError: it is such an image.
    """
    low, high = math.inf, -math.inf
    shape = subject.source.spec.grid.shape
    for box in sample_boxes(shape, math.prod(shape)):
        voxels = subject.source.read(box)
        valid = voxels[np.isfinite(voxels)]
        if valid.size:
            low, high = min(low, float(valid.min())), max(high, float(valid.max()))
        if low < high:
            return
    found = f"has the value {low:g} everywhere" if low == high else "has no valid voxel"
    raise RecipeError(f"{subject.name} {found}: there is nothing to learn from; leave it out of the recipe's data.")


def check_pair(subject: Subject, factor: Factor) -> None:
    """Refuses a true coarse image that is not the same place, `factor` times coarser, with the same channels.

    Raises:
        RecipeError: it is not; the message names both files.
    """
    if subject.coarse is None:
        return
    fine, coarse = subject.source.spec, subject.coarse.source.spec
    both = f"{subject.name} and its lr {subject.coarse.name}"
    if len(fine.channels) != len(coarse.channels):
        raise RecipeError(f"{both} have {len(fine.channels)} and {len(coarse.channels)} channels; a pair has as many.")
    asked = tuple(
        factor[subject.axes.index(axis)] if axis in subject.axes else 1 for axis in range(len(fine.grid.shape))
    )
    try:
        found = fine.grid.ratio_to(coarse.grid)
    except GridError as error:
        raise RecipeError(f"{both} are no pair: {error}") from error
    if found != asked:
        raise RecipeError(f"{both} differ by a factor of {found}; the recipe asks for {asked}.")
    if not fine.grid.same_place(coarse.grid):
        raise RecipeError(f"{both} do not cover the same place; bring both onto grids with the same outer edges first.")


def _divided(place: Shape, factor: Factor) -> Shape:
    return tuple(a // f for a, f in zip(place, factor, strict=True))
