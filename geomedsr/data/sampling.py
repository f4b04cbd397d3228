"""Patches from sources: where they lie is a function of the seed and the step, so a run resumes by counting.

A sampler draws an image (by its number of voxels), a plane where the task has two axes and the image three, and a
place; flat and invalid places are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geomedsr.data.intensity import Intensity, IntensityRule
from geomedsr.errors import RecipeError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Source, Voxels

__all__ = ["Patch", "PatchSampler", "Subject", "planar_axes", "prepare"]

_TRIES = 50


def planar_axes(spacing: Sequence[float]) -> tuple[int, int]:
    """The two axes of a volume that its slices lie in: all but the one of the largest spacing (the last of equals).

    Example:
        >>> planar_axes((0.9, 3.0, 0.9))
        (0, 2)
    """
    coarsest = max(range(len(spacing)), key=lambda axis: (round(spacing[axis], 4), axis))
    first, second = (axis for axis in range(len(spacing)) if axis != coarsest)
    return first, second


@dataclass(frozen=True)
class Subject:
    """A source, the axes that a patch spans on it, and its intensity map."""

    name: str
    source: Source
    axes: tuple[int, ...]
    intensity: Intensity

    @property
    def shape(self) -> Shape:
        """The voxels on the axes that a patch spans."""
        return tuple(self.source.spec.grid.shape[axis] for axis in self.axes)

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
        voxels = self.intensity.apply(self.source.read(self.box(start, stop, plane)))
        flat = tuple(1 + axis for axis in range(voxels.ndim - 1) if axis not in self.axes)
        return np.squeeze(voxels, flat)

    @property
    def planes(self) -> Shape:
        """How many places there are on the axes that a patch does not span."""
        shape = self.source.spec.grid.shape
        return tuple(n for axis, n in enumerate(shape) if axis not in self.axes)


def prepare(name: str, source: Source, ndim: int, rule: IntensityRule, axes: tuple[int, ...] | None) -> Subject:
    """A subject for patches of `ndim` axes.

    Raises:
        RecipeError: the image has fewer axes than the task.
    """
    grid = source.spec.grid
    if grid.ndim < ndim:
        raise RecipeError(f"The recipe's factor has {ndim} numbers; {name} has {grid.ndim} axes.")
    if grid.ndim == ndim:
        axes = tuple(range(ndim))
    return Subject(name, source, axes or planar_axes(grid.spacing), rule.fit(source))


@dataclass(frozen=True)
class Patch:
    """A fine patch inside the `context` that its degradation needs.

    Shape: `context` is (C, *S) in the network's units; `inner` is the patch's box in it, aligned to the factor.
    """

    context: Voxels
    inner: Box


class PatchSampler:
    """Draws patches of `patch` fine voxels, each with `margin` voxels of context (None: whole axes)."""

    def __init__(
        self, subjects: Sequence[Subject], patch: Shape, factor: Factor, margin: int | None, contrast: float
    ) -> None:
        self.subjects = [subject for subject in subjects if _fits(subject, patch)]
        if not self.subjects:
            sizes = ", ".join(f"{s.name} {'x'.join(map(str, s.shape))}" for s in subjects)
            raise RecipeError(f"No training image is as large as a patch of {'x'.join(map(str, patch))}: {sizes}.")
        self.patch, self.factor, self.margin, self.contrast = patch, factor, margin, contrast
        voxels = [math.prod(s.source.spec.grid.shape) for s in self.subjects]
        self._weights = np.array(voxels, np.float64) / sum(voxels)

    def draw(self, rng: np.random.Generator) -> Patch:
        """One patch.

        Raises:
            RecipeError: fifty draws in a row found nothing but invalid voxels.
        """
        best: tuple[float, Subject, Shape, Shape] | None = None
        for _ in range(_TRIES):
            subject = self.subjects[rng.choice(len(self.subjects), p=self._weights)]
            plane = tuple(int(rng.integers(n)) for n in subject.planes)
            start = tuple(
                int(rng.integers((n - p) // f + 1)) * f
                for n, p, f in zip(subject.shape, self.patch, self.factor, strict=True)
            )
            stop = tuple(a + p for a, p in zip(start, self.patch, strict=True))
            spread = float(subject.read(start, stop, plane).std())  # NaN where a voxel is invalid
            if not math.isnan(spread) and (best is None or spread > best[0]):
                best = (spread, subject, start, plane)
            if best is not None and best[0] >= self.contrast:
                break
        if best is None:
            raise RecipeError(f"{_TRIES} random patches in a row had invalid voxels; the images are all but empty.")
        return self._with_context(*best[1:])

    def _with_context(self, subject: Subject, start: Shape, plane: Shape) -> Patch:
        low, high = [], []
        for a, p, n, f in zip(start, self.patch, subject.shape, self.factor, strict=True):
            margin = n if self.margin is None else -(-self.margin // f) * f
            low.append(max(a - margin, 0))
            high.append(min(a + p + margin, n // f * f))
        context = subject.read(tuple(low), tuple(high), plane)
        inner = Box(start, tuple(a + p for a, p in zip(start, self.patch, strict=True))).relative_to(low)
        return Patch(np.nan_to_num(context, nan=0.0), inner)


def _fits(subject: Subject, patch: Shape) -> bool:
    return all(n >= p for n, p in zip(subject.shape, patch, strict=True))
