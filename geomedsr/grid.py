"""Where voxels are in the world. All arithmetic on geometry lives here and nowhere else.

Convention: an affine maps voxel **edges**. Voxel 0 covers [0, 1) on its axis, so the image covers [0, n) and its
extent cannot move when it is cut finer: the columns are divided, and the origin stays. Formats that count from voxel
centres (NIfTI, NGFF) convert with `Grid.from_centres` and `Grid.centre_affine` at their door.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GridError

__all__ = ["Box", "Factor", "Grid", "Matrix", "Shape", "as_factor", "centred"]

Shape = tuple[int, ...]
"""One integer for each spatial axis, in the order of the file."""

Factor = tuple[int, ...]
"""How many times finer each axis becomes; at least 1 each."""

Matrix = tuple[tuple[float, ...], ...]
"""A square matrix in homogeneous coordinates, rows first."""
_DEGREE = 111_195.0  # metres, on a sphere of the earth's mean radius


def as_factor(values: Iterable[int], ndim: int) -> Factor:
    """A checked factor for `ndim` axes; one value stands for all axes.

    Raises:
        GridError: the count does not fit, or a value is below 1.

    Example:
        >>> as_factor([2], 3)
        (2, 2, 2)
    """
    factor = tuple(int(value) for value in values)
    if len(factor) == 1:
        factor = factor * ndim
    if len(factor) != ndim:
        raise GridError(f"A factor for {ndim} axes has {ndim} numbers; {factor} has {len(factor)}.")
    if min(factor) < 1:
        raise GridError(f"A factor is at least 1 on each axis; {factor} is not.")
    return factor


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open region of voxel indices, [start, stop) on each axis.

    Example:
        >>> Box((0, 2), (4, 6)).scaled((2, 3))
        Box(start=(0, 6), stop=(8, 18))
    """

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise GridError(f"A box needs as many starts as stops; got {self.start} and {self.stop}.")
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise GridError(f"A box ends where it starts or later; {self.start} to {self.stop} does not.")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box of a whole image of this shape."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.start)

    @property
    def shape(self) -> Shape:
        """The number of voxels on each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """The number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array of the spatial axes."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def scaled(self, factor: Factor) -> Box:
        """The same place on the grid that is `factor` times finer."""
        return Box(
            tuple(a * f for a, f in zip(self.start, factor, strict=True)),
            tuple(b * f for b, f in zip(self.stop, factor, strict=True)),
        )

    def grown(self, halo: Shape) -> Box:
        """The box with `halo` voxels more on both sides of each axis; it may reach below 0."""
        return Box(
            tuple(a - h for a, h in zip(self.start, halo, strict=True)),
            tuple(b + h for b, h in zip(self.stop, halo, strict=True)),
        )

    def clipped(self, shape: Shape) -> Box:
        """What of the box lies inside an image of this shape (possibly nothing)."""
        start = tuple(min(max(a, 0), n) for a, n in zip(self.start, shape, strict=True))
        stop = tuple(max(min(b, n), a) for a, b, n in zip(start, self.stop, shape, strict=True))
        return Box(start, stop)

    def shifted(self, offset: Sequence[int]) -> Box:
        """The box moved by `offset` voxels."""
        return Box(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """The box counted from `origin` instead of from 0."""
        return self.shifted([-o for o in origin])

    def contains(self, other: Box) -> bool:
        """Whether `other` lies wholly inside."""
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def check_inside(self, shape: Shape) -> None:
        """Refuses a box that is not inside an image of this shape.

        Raises:
            GridError: with both.
        """
        if self.ndim != len(shape) or not Box.whole(shape).contains(self):
            raise GridError(f"The box {self.start} to {self.stop} is not inside an image of {shape}.")

    def intersection(self, other: Box) -> Box | None:
        """What both cover, or None."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def split(self, step: Shape) -> Iterator[Box]:
        """The box cut into pieces of at most `step`, last axis fastest; they partition it."""
        ranges = [range(a, b, s) for a, b, s in zip(self.start, self.stop, step, strict=True)]
        for start in product(*ranges):
            yield Box(start, tuple(min(a + s, b) for a, s, b in zip(start, step, self.stop, strict=True)))


@dataclass(frozen=True, slots=True)
class Grid:
    """A shape and where its voxels' edges lie in the world.

    Shape: `affine` is (ndim + 1, ndim + 1); its columns are in the order of the file's axes.
    Units: world coordinates are in `units` ("mm", "m", "degree", "" where the file does not say).

    Example:
        >>> grid = Grid((10, 10), ((2.0, 0.0, 5.0), (0.0, 2.0, 5.0), (0.0, 0.0, 1.0)))
        >>> grid.upscaled((2, 2)).spacing
        (1.0, 1.0)
    """

    shape: Shape
    affine: Matrix
    crs: str | None = None
    units: str = ""

    def __post_init__(self) -> None:
        ndim = len(self.shape)
        if any(n < 1 for n in self.shape):
            raise GridError(f"Each axis of a grid has at least one voxel; the shape is {self.shape}.")
        if len(self.affine) != ndim + 1 or any(len(row) != ndim + 1 for row in self.affine):
            raise GridError(f"A grid of {ndim} axes has an affine of {ndim + 1} x {ndim + 1}; got {self.affine}.")
        if not all(math.isfinite(value) for row in self.affine for value in row):
            raise GridError(f"The affine has a value that is not finite: {self.affine}.")
        with np.errstate(all="ignore"):
            spacing, volume = self.spacing, abs(float(np.linalg.det(self.matrix[:-1, :-1])))
        # Relative to the spacings, as a grid may be in degrees; numbers too large to be multiplied fail as well.
        if not (min(spacing) > 0 and volume > 1e-9 * math.prod(spacing)):
            raise GridError(f"The affine is singular (spacing {spacing}): its axes do not span the space.")

    @classmethod
    def of(cls, shape: Sequence[int], affine: NDArray[Any], crs: str | None = None, units: str = "") -> Grid:
        """A grid from any sequence and array of numbers."""
        rows = np.asarray(affine, dtype=np.float64).tolist()
        return cls(tuple(int(n) for n in shape), tuple(tuple(row) for row in rows), crs, units)

    @classmethod
    def from_centres(cls, shape: Sequence[int], affine: NDArray[Any], crs: str | None = None, units: str = "") -> Grid:
        """A grid from an affine that maps voxel centres, as NIfTI's does."""
        return cls.of(shape, centred(np.asarray(affine, dtype=np.float64), -1), crs, units)

    @classmethod
    def from_steps(
        cls, shape: Sequence[int], rows: Sequence[int], steps: Sequence[float], first: Sequence[float], units: str = ""
    ) -> Grid:
        """A grid whose axis i runs along the world's axis `rows[i]`, voxel centres `steps[i]` apart from `first[i]` on.

        Example:
            >>> Grid.from_steps((4, 6), (1, 0), (2.0, 1.0), (10.0, 0.0)).affine
            ((0.0, 1.0, -0.5), (2.0, 0.0, 9.0), (0.0, 0.0, 1.0))
        """
        affine = np.zeros((len(shape) + 1, len(shape) + 1))
        affine[-1, -1] = 1.0
        for axis, row in enumerate(rows):
            affine[row, axis], affine[row, -1] = steps[axis], first[axis]
        return cls.from_centres(shape, affine, units=units)

    @classmethod
    def plain(cls, shape: Sequence[int]) -> Grid:
        """A grid without a place in the world: unit spacing, origin 0."""
        return cls.of(shape, np.eye(len(shape) + 1))

    @property
    def ndim(self) -> int:
        """The number of spatial axes."""
        return len(self.shape)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array of float64."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The edge length of a voxel on each axis, in `units`."""
        lengths = np.sqrt((self.matrix[:-1, :-1] ** 2).sum(axis=0))
        return tuple(float(length) for length in lengths)

    @property
    def metres(self) -> tuple[float, ...] | None:
        """The spacing on the ground of a grid in degrees of longitude and latitude, in its middle; None for others.

        Example:
            >>> north_up = np.array([[0, 1e-4, 9], [-1e-4, 0, 60.0], [0, 0, 1]])
            >>> [round(step, 1) for step in Grid.of((10, 10), north_up, units="degree").metres]
            [11.1, 5.6]
        """
        latitude = float(self.world([n / 2 for n in self.shape])[1])
        if self.units != "degree" or self.ndim != 2 or abs(latitude) > 90:
            return None
        ground = np.diag([_DEGREE * math.cos(math.radians(latitude)), _DEGREE]) @ self.matrix[:2, :2]
        return tuple(np.hypot(*ground).tolist())

    @property
    def corners(self) -> NDArray[np.float64]:
        """The world coordinates of the image's corners.

        Shape: (2 ** ndim, ndim)
        """
        ends = np.array(list(product(*[(0, n) for n in self.shape])), dtype=np.float64)
        return np.asarray(ends @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1])

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles to each other (beyond rounding)."""
        unit = self.matrix[:-1, :-1] / np.array(self.spacing)
        return bool(np.abs(unit.T @ unit - np.eye(self.ndim)).max() > 1e-4)

    def centre_affine(self) -> NDArray[np.float64]:
        """The affine that maps voxel centres instead of edges, as NIfTI and NGFF write it."""
        return centred(self.matrix, +1)

    def steps(self, rows: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """What `from_steps` would take: the distances of the centres, and the first; None where no axis order fits.

        Example:
            >>> Grid.plain((4, 4)).upscaled((2, 2)).steps((0, 1))
            ((0.5, 0.5), (0.25, 0.25))
        """
        affine = self.centre_affine()
        steps = tuple(float(affine[row, axis]) for axis, row in enumerate(rows))
        first = tuple(float(affine[row, -1]) for row in rows)
        rest = affine[:-1, :-1].copy()
        rest[list(rows), range(self.ndim)] = 0
        is_along = bool(np.abs(rest).max() <= 1e-9 * min(self.spacing))
        return (steps, first) if is_along else None

    def steps_within(self, base: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The distances of the centres along the grid's own axes, and the first, counted from the first of `base`.

        `base` has the same axes, in the same order; its first voxel centre is the origin.

        Example:
            >>> Grid.plain((8, 8)).upscaled((2, 2)).steps_within(Grid.plain((8, 8)))
            ((0.5, 0.5), (-0.25, -0.25))
        """
        inside = centred(np.asarray(np.linalg.solve(base.matrix, self.matrix), np.float64), +1)
        first = (inside[:-1, -1] - 0.5) * np.array(base.spacing)
        return self.spacing, tuple(float(value) for value in first)

    def within(self, base: Grid, outer: Grid) -> Grid:
        """The place of this grid when `base` lies where `outer` does: what `base` knows of its levels, in the world.

        Example:
            >>> level, outer = Grid.plain((4, 4)).upscaled((2, 2)), Grid.plain((4, 4)).upscaled((4, 4))
            >>> level.within(Grid.plain((4, 4)), outer).spacing
            (0.125, 0.125)
        """
        affine = outer.matrix @ np.linalg.solve(base.matrix, self.matrix)
        return Grid.of(self.shape, affine, outer.crs, outer.units)

    def world(self, index: Sequence[float]) -> NDArray[np.float64]:
        """The world coordinates of a point in edge-based voxel coordinates."""
        return np.asarray(self.matrix[:-1, :-1] @ np.asarray(index, dtype=np.float64) + self.matrix[:-1, -1])

    def cropped(self, box: Box) -> Grid:
        """The grid of a box of the image.

        Raises:
            GridError: the box is empty or not inside.
        """
        if box.ndim != self.ndim or not Box.whole(self.shape).contains(box) or box.size == 0:
            raise GridError(f"The box {box.start} to {box.stop} is not inside an image of {self.shape}.")
        moved = self.matrix
        moved[:-1, -1] = self.world(box.start)
        return Grid.of(box.shape, moved, self.crs, self.units)

    def upscaled(self, factor: Factor) -> Grid:
        """The same place, each axis cut `factor` times finer."""
        factor = as_factor(factor, self.ndim)
        shape = tuple(n * f for n, f in zip(self.shape, factor, strict=True))
        return Grid.of(shape, self.matrix / np.array([*factor, 1.0]), self.crs, self.units)

    def downscaled(self, factor: Factor) -> Grid:
        """The same place, each axis `factor` times coarser.

        Raises:
            GridError: an axis does not divide.
        """
        factor = as_factor(factor, self.ndim)
        if any(n % f for n, f in zip(self.shape, factor, strict=True)):
            raise GridError(f"A grid of {self.shape} voxels cannot be made {factor} times coarser: it does not divide.")
        shape = tuple(n // f for n, f in zip(self.shape, factor, strict=True))
        return Grid.of(shape, self.matrix * np.array([*factor, 1.0]), self.crs, self.units)

    def binned(self, factor: Factor) -> Grid:
        """The same place in voxels `factor` times larger, the last of which may reach beyond it.

        Example:
            >>> Grid.plain((5, 4)).binned((2, 2)).shape
            (3, 2)
        """
        factor = as_factor(factor, self.ndim)
        shape = tuple(-(-n // f) for n, f in zip(self.shape, factor, strict=True))
        return Grid.of(shape, self.matrix * np.array([*factor, 1.0]), self.crs, self.units)

    def ratio_to(self, coarse: Grid) -> Factor:
        """How many times finer this grid is than `coarse`, by their shapes.

        Raises:
            GridError: it is not a whole multiple.
        """
        if self.ndim != coarse.ndim or any(n % c for n, c in zip(self.shape, coarse.shape, strict=True)):
            raise GridError(f"{self.shape} is not a whole multiple of {coarse.shape}.")
        return tuple(n // c for n, c in zip(self.shape, coarse.shape, strict=True))

    def centres(self, axis: int) -> NDArray[np.float64]:
        """The world coordinates of the voxel centres along an axis, for a grid whose axes run along the world's."""
        affine = self.centre_affine()
        row = int(np.abs(affine[:-1, axis]).argmax())
        return np.asarray(affine[row, -1] + affine[row, axis] * np.arange(self.shape[axis]))

    def same_place(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both cover the same extent: corners within `tolerance` voxels of the finer one, and one CRS."""
        if self.ndim != other.ndim or self.crs != other.crs:
            return False
        finest = min(min(self.spacing), min(other.spacing))
        return bool(np.abs(self.corners - other.corners).max() <= tolerance * finest)

    def to_json(self) -> dict[str, object]:
        """The grid as plain JSON values."""
        return {
            "shape": list(self.shape),
            "affine": [list(row) for row in self.affine],
            "crs": self.crs,
            "units": self.units,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Grid:
        """The grid that `to_json` wrote."""
        return cls.of(data["shape"], np.array(data["affine"]), data["crs"], data["units"])

    def with_shape(self, shape: Shape) -> Grid:
        """The same origin and axes with another number of voxels."""
        return replace(self, shape=shape)


def centred(affine: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """An affine whose origin is moved by half a voxel on each axis: +1 edges to centres, -1 centres to edges."""
    moved = affine.copy()
    moved[:-1, -1] += sign * 0.5 * affine[:-1, :-1].sum(axis=1)
    return moved
