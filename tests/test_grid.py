"""Geometry is algebra: extents stay, crops and factors commute, what goes up comes down."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geomedsr.errors import GridError
from geomedsr.grid import Box, Factor, Grid, Shape, as_factor, centred

NEAR = 1e-12
"""Relative to the size of the numbers at hand: a few roundings of float64, one for each product and sum."""


def assert_near(left: NDArray[Any], right: NDArray[Any]) -> None:
    scale = max(float(np.abs(left).max()), float(np.abs(right).max()), 1e-300)
    assert float(np.abs(left - right).max()) <= NEAR * scale


def assert_same(left: Grid, right: Grid) -> None:
    assert (left.shape, left.crs, left.units) == (right.shape, right.crs, right.units)
    for axis in range(left.ndim + 1):  # each column on its own scale: an origin is larger than a spacing by far
        assert_near(left.matrix[:, axis], right.matrix[:, axis])


@st.composite
def affines(draw: st.DrawFn, ndim: int) -> NDArray[np.float64]:
    """Rotated, sheared, mirrored (south-up), anisotropic and far from the origin, in any mixture."""
    angle = st.floats(-math.pi, math.pi)
    linear = np.eye(ndim)
    for i in range(ndim):
        for j in range(i + 1, ndim):
            turn, a = np.eye(ndim), draw(angle)
            turn[[i, i, j, j], [i, j, i, j]] = math.cos(a), -math.sin(a), math.sin(a), math.cos(a)
            linear = linear @ turn
    shear = np.eye(ndim) + np.triu(np.full((ndim, ndim), draw(st.floats(-0.7, 0.7))), 1)
    exponents = st.lists(st.floats(-4, 4), min_size=ndim, max_size=ndim)
    signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=ndim, max_size=ndim)
    spacing = 10.0 ** np.array(draw(exponents)) * np.array(draw(signs))
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = linear @ shear @ np.diag(spacing)
    affine[:-1, -1] = draw(st.lists(st.floats(-1e7, 1e7), min_size=ndim, max_size=ndim))
    return affine


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    ndim = draw(st.sampled_from([2, 3]))
    shape = draw(st.lists(st.integers(1, 300), min_size=ndim, max_size=ndim))
    crs, units = draw(st.sampled_from([(None, "mm"), ("EPSG:32632", "m"), ("EPSG:4326", "degree"), (None, "")]))
    return Grid.of(shape, draw(affines(ndim)), crs, units)


def factors(ndim: int) -> st.SearchStrategy[Factor]:
    return st.tuples(*[st.integers(1, 5)] * ndim)


@st.composite
def boxes(draw: st.DrawFn, shape: Shape) -> Box:
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


@given(grids(), st.data())
def test_upscaling_leaves_the_extent(grid: Grid, data: st.DataObject) -> None:
    factor = data.draw(factors(grid.ndim))
    finer = grid.upscaled(factor)
    assert finer.shape == tuple(n * f for n, f in zip(grid.shape, factor, strict=True))
    assert_near(finer.corners, grid.corners)
    assert_near(np.array(finer.spacing) * factor, np.array(grid.spacing))
    assert finer.ratio_to(grid) == factor
    assert (finer.crs, finer.units) == (grid.crs, grid.units)


@given(grids(), st.data())
def test_up_then_down_is_the_identity(grid: Grid, data: st.DataObject) -> None:
    factor = data.draw(factors(grid.ndim))
    assert_same(grid.upscaled(factor).downscaled(factor), grid)


@given(grids(), st.data())
def test_upscaling_twice_is_once_by_the_product(grid: Grid, data: st.DataObject) -> None:
    first, second = data.draw(factors(grid.ndim)), data.draw(factors(grid.ndim))
    product = tuple(a * b for a, b in zip(first, second, strict=True))
    assert_same(grid.upscaled(first).upscaled(second), grid.upscaled(product))


@given(grids(), st.data())
def test_crop_and_upscale_commute(grid: Grid, data: st.DataObject) -> None:
    factor, box = data.draw(factors(grid.ndim)), data.draw(boxes(grid.shape))
    assert_same(grid.cropped(box).upscaled(factor), grid.upscaled(factor).cropped(box.scaled(factor)))


@given(grids(), st.data())
def test_cropping_twice_is_once(grid: Grid, data: st.DataObject) -> None:
    outer = data.draw(boxes(grid.shape))
    inner = data.draw(boxes(outer.shape))
    assert_same(grid.cropped(outer).cropped(inner), grid.cropped(inner.shifted(outer.start)))
    assert_same(grid.cropped(Box.whole(grid.shape)), grid)


@given(grids())
def test_centres_and_edges_are_inverse(grid: Grid) -> None:
    assert_same(Grid.from_centres(grid.shape, grid.centre_affine(), grid.crs, grid.units), grid)
    assert_near(centred(centred(grid.matrix, 1), -1), grid.matrix)


@given(grids(), st.data())
def test_the_nifti_origin_moves_by_half_of_what_the_voxel_loses(grid: Grid, data: st.DataObject) -> None:
    factor = np.array(data.draw(factors(grid.ndim)), dtype=np.float64)
    before, after = grid.centre_affine(), grid.upscaled(tuple(int(f) for f in factor)).centre_affine()
    expected = before[:-1, -1] - before[:-1, :-1] @ (1 - 1 / factor) / 2
    assert_near(after[:-1, -1], expected)
    assert_near(after[:-1, :-1], before[:-1, :-1] / factor)


@given(grids())
def test_json_is_exact(grid: Grid) -> None:
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid
    assert pickle.loads(pickle.dumps(grid)) == grid  # noqa: S301 - our own bytes
    assert hash(Grid.from_json(grid.to_json())) == hash(grid)


@given(grids(), st.data())
def test_same_place_knows_a_finer_grid_and_a_moved_one(grid: Grid, data: st.DataObject) -> None:
    finer = grid.upscaled(data.draw(factors(grid.ndim)))
    # The origin is at most 1e7 away: rounding of the corners must be small beside a voxel for this to be asked.
    if min(finer.spacing) < 1e-3:
        return
    assert finer.same_place(grid)
    moved = grid.matrix
    moved[:-1, -1] += 0.51 * np.array(grid.spacing)
    assert not Grid.of(grid.shape, moved, grid.crs).same_place(grid)
    assert not Grid.of(grid.shape, grid.matrix, "EPSG:3857").same_place(grid)


def test_a_known_case_of_each_axis() -> None:
    """1 mm voxels, twice finer along k: the centre of the first voxel moves by a quarter of a millimetre."""
    grid = Grid.from_centres((4, 5, 6), np.diag([1.0, 1.0, 1.0, 1.0]), units="mm")
    assert grid.corners.min() == -0.5
    assert grid.upscaled((1, 1, 2)).centre_affine()[:-1, -1].tolist() == [0.0, 0.0, -0.25]
    assert grid.upscaled((1, 1, 2)).spacing == (1.0, 1.0, 0.5)


def test_a_south_up_raster_stays_south_up() -> None:
    north_up = Grid.of((10, 20), np.array([[0.0, 10.0, 500.0], [-10.0, 0.0, 900.0], [0.0, 0.0, 1.0]]))
    south_up = Grid.of((10, 20), np.array([[0.0, 10.0, 500.0], [10.0, 0.0, 900.0], [0.0, 0.0, 1.0]]))
    for grid in (north_up, south_up):
        finer = grid.upscaled((2, 2))
        assert np.sign(finer.matrix).tolist() == np.sign(grid.matrix).tolist()
        assert finer.world((0, 0)).tolist() == [500.0, 900.0]


def test_corners_and_world() -> None:
    grid = Grid.of((2, 3), np.array([[2.0, 0.0, 10.0], [0.0, -1.0, 20.0], [0.0, 0.0, 1.0]]))
    assert grid.corners.tolist() == [[10.0, 20.0], [10.0, 17.0], [14.0, 20.0], [14.0, 17.0]]
    assert grid.world((0.5, 0.5)).tolist() == [11.0, 19.5]
    assert grid.with_shape((4, 3)).corners.tolist()[-1] == [18.0, 17.0]


def test_shear_is_seen() -> None:
    turned = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    sheared = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert not Grid.of((2, 2), turned).is_sheared
    assert not Grid.of((2, 2), turned @ np.diag([5.0, 0.1, 1.0])).is_sheared
    assert Grid.of((2, 2), sheared).is_sheared


@pytest.mark.parametrize(
    ("shape", "affine", "sentence"),
    [
        ((0, 3), np.eye(3), "at least one voxel"),
        ((2, 3), np.eye(4), "an affine of 3 x 3"),
        ((2, 3, 4), np.eye(3), "an affine of 4 x 4"),
        ((2, 3), np.array([[1, 0, np.nan], [0, 1, 0], [0, 0, 1]]), "not finite"),
        ((2, 3), np.array([[np.inf, 0, 0], [0, 1, 0], [0, 0, 1]]), "not finite"),
        ((2, 3), np.diag([1.0, 0.0, 1.0]), "singular"),
        ((2, 3), np.array([[1, 2, 0], [1, 2, 0], [0, 0, 1]]), "singular"),
        ((2, 3, 4), np.diag([1e-9, 1.0, 0.0, 1.0]), "singular"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(shape: Shape, affine: NDArray[Any], sentence: str) -> None:
    with pytest.raises(GridError, match=sentence):
        Grid.of(shape, affine)


def test_small_spacings_are_no_singularity() -> None:
    assert Grid.of((2, 3, 4), np.diag([1e-9, 1e-9, 1e-9, 1.0])).spacing == (1e-9,) * 3


@pytest.mark.parametrize("box", [Box((0, 0), (3, 4)), Box((-1, 0), (1, 1)), Box((1, 1), (1, 2)), Box((0,), (1,))])
def test_a_box_outside_is_refused(box: Box) -> None:
    with pytest.raises(GridError, match="is not inside an image of"):
        Grid.plain((2, 4)).cropped(box)


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(GridError, match="does not divide"):
        Grid.plain((5, 4)).downscaled((2, 2))
    with pytest.raises(GridError, match="not a whole multiple"):
        Grid.plain((5, 4)).ratio_to(Grid.plain((2, 2)))
    with pytest.raises(GridError, match="not a whole multiple"):
        Grid.plain((4, 4)).ratio_to(Grid.plain((2, 2, 2)))


@pytest.mark.parametrize(
    ("values", "sentence"), [((2, 2), "has 3 numbers"), ((0,), "at least 1"), ((1, -2, 1), "least")]
)
def test_a_factor_that_cannot_be_is_refused(values: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(GridError, match=sentence):
        as_factor(values, 3)
    with pytest.raises(GridError, match=sentence):
        Grid.plain((2, 2, 2)).upscaled(values)


# Boxes


@given(st.data())
def test_split_partitions(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(7, 12), (5, 6, 7)]))
    box = data.draw(boxes(shape))
    step = data.draw(st.tuples(*[st.integers(1, 5)] * box.ndim))
    counts = np.zeros(shape, dtype=int)
    for part in box.split(step):
        assert all(n <= s for n, s in zip(part.shape, step, strict=True))
        counts[part.slices] += 1
    assert counts[box.slices].tolist() == np.ones(box.shape, dtype=int).tolist()
    assert counts.sum() == box.size


@given(st.data())
def test_intersection_is_what_both_cover(data: st.DataObject) -> None:
    shape = (9, 11)
    first, second = data.draw(boxes(shape)), data.draw(boxes(shape))
    painted = np.zeros(shape, dtype=int)
    painted[first.slices] += 1
    painted[second.slices] += 1
    common = first.intersection(second)
    assert (painted == 2).sum() == (common.size if common else 0)
    assert common == second.intersection(first)
    if common:
        assert first.contains(common)
        assert second.contains(common)


@given(st.data())
def test_grown_and_clipped_stays_inside(data: st.DataObject) -> None:
    shape = (9, 11)
    box = data.draw(boxes(shape))
    halo = data.draw(st.tuples(st.integers(0, 20), st.integers(0, 20)))
    grown = box.grown(halo)
    assert grown.contains(box)
    assert grown.shape == tuple(n + 2 * h for n, h in zip(box.shape, halo, strict=True))
    assert Box.whole(shape).contains(grown.clipped(shape))
    assert grown.clipped(shape).contains(box)
    assert box.shifted(halo).relative_to(halo) == box


def test_a_box_wholly_outside_is_clipped_to_nothing() -> None:
    assert Box((10, 0), (12, 5)).clipped((5, 5)).size == 0
    assert Box((-4, 0), (-2, 5)).clipped((5, 5)).size == 0


@pytest.mark.parametrize(("start", "stop"), [((0,), (1, 2)), ((3, 0), (2, 5))])
def test_a_box_that_cannot_be_is_refused(start: Shape, stop: Shape) -> None:
    with pytest.raises(GridError, match="A box"):
        Box(start, stop)
