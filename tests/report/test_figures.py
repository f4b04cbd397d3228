"""Pictures before and after: what is shown, which way round, and with how little memory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from geomedsr.errors import GridError, OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Voxels
from geomedsr.report._view import INVALID, Stretch, View, enlarged, most_detailed, read_plane
from geomedsr.report.figures import before_after


def repeated(image: Image, factor: tuple[int, ...]) -> Image:
    voxels = image.voxels
    for axis, times in enumerate(factor, start=1):
        voxels = voxels.repeat(times, axis)
    return Image(image.spec.upscaled(factor), voxels)


def random_image(shape: tuple[int, ...], grid: Grid | None = None) -> Image:
    return Image.of(np.random.default_rng(0).random(shape), grid)


def as_nifti(image: Image) -> Image:
    return Image(replace(image.spec, extra={"nifti": None}), image.voxels)


class Counting(Image):
    """An image that remembers the most voxels that were asked for at once."""

    largest = 0

    def read(self, box: Box) -> Voxels:
        self.largest = max(self.largest, box.size * len(self.spec.channels))
        return super().read(box)


def test_a_raster_becomes_a_png(tmp_path: Path) -> None:
    before = random_image((4, 60, 80))
    path = before_after(before, repeated(before, (2, 2)), tmp_path / "out.png", title="Scene")
    with Picture.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * 420
    assert list(tmp_path.iterdir()) == [path]


def test_a_repeated_input_looks_the_same_on_both_sides(tmp_path: Path) -> None:
    before = random_image((1, 50, 50))
    path = before_after(before, repeated(before, (2, 2)), tmp_path / "out.png", labels=("same", "same"))
    pixels = np.asarray(Picture.open(path))
    half = (pixels.shape[1] - 24) // 2
    # Below the two lines of text: the captions differ, the panels and the insets do not.
    np.testing.assert_array_equal(pixels[84:, 24:half], pixels[84:, half + 24 : 2 * half])


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (700, 2), (1100, 40)])
def test_odd_shapes_are_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    before = random_image((1, *shape))
    assert before_after(before, repeated(before, (2, 2)), tmp_path / "out.png").exists()


def test_an_image_without_a_valid_voxel_is_drawn(tmp_path: Path) -> None:
    before = Image.of(np.full((3, 30, 30), np.nan))
    assert before_after(before, repeated(before, (2, 2)), tmp_path / "out.png").exists()


def test_a_thick_volume_is_drawn_true_to_its_spacing(tmp_path: Path) -> None:
    grid = Grid.of((30, 24, 10), np.diag([1.0, 1.0, 5.0, 1.0]), units="mm")
    before = as_nifti(random_image((1, 30, 24, 10), grid))
    after = repeated(before, (1, 1, 4))
    assert View.of(before.spec, (1, 1, 4)).cut == 1
    assert before_after(before, after, tmp_path / "out.png", title="thick").exists()


def test_a_result_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    before = random_image((1, 20, 20))
    with pytest.raises(GridError, match="whole multiple"):
        before_after(before, random_image((1, 30, 40)), tmp_path / "out.png")
    with pytest.raises(GridError, match="region"):
        before_after(before, repeated(before, (2, 2)), tmp_path / "out.png", region=Box((0, 0), (30, 5)))
    with pytest.raises(OutputError, match="does not exist"):
        before_after(before, repeated(before, (2, 2)), tmp_path / "nowhere" / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_channels_are_chosen_by_name_and_matched_by_name(tmp_path: Path) -> None:
    before = random_image((4, 24, 24))
    before = Image(replace(before.spec, channels=("B8", "B2", "B3", "B4")), before.voxels)
    chosen = repeated(before, (2, 2))
    chosen = Image(chosen.spec.with_channels((3, 2, 1)), chosen.voxels[[3, 2, 1]])
    path = before_after(before, chosen, tmp_path / "out.png", labels=("same", "same"))
    pixels = np.asarray(Picture.open(path))
    half = (pixels.shape[1] - 24) // 2
    np.testing.assert_array_equal(pixels[84:, 24:half], pixels[84:, half + 24 : 2 * half])


def test_a_volume_is_shown_as_radiologists_do() -> None:
    # Stored right to left, back to front, up: what most scanners write as LAS.
    grid = Grid.of((8, 9, 5), np.diag([-1.0, 1.0, 3.0, 1.0]), units="mm")
    view = View.of(as_nifti(random_image((1, 8, 9, 5), grid)).spec, (2, 2, 1))
    assert (view.rows, view.columns, view.cut) == (1, 0, 2)
    assert view.ends == ("A", "P", "R", "L")
    assert view.turned == (True, False)


def test_an_axis_of_one_voxel_is_the_one_that_is_cut() -> None:
    assert View.of(random_image((1, 1, 9, 5)).spec, (2, 2, 2)).cut == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_the_shown_plane_does_not_depend_on_how_it_is_stored(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    # One marked voxel in the front right of the head is drawn at the upper left, however the axes are stored.
    tilt = math.radians(10)
    turn = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
    axes = (turn * np.array(signs))[:, order]
    factor = tuple(1 if axis == 2 else 2 for axis in order)
    affine = np.eye(4)
    affine[:3, :3] = axes
    voxels = np.zeros((1, 6, 6, 6), dtype=np.float32)
    marked = np.linalg.solve(axes, turn @ np.array([2.4, 2.4, 0.0])) + 3
    voxels[(0, *np.floor(marked).astype(int))] = 1
    voxels = voxels.max(axis=1 + order.index(2), keepdims=True).repeat(6, 1 + order.index(2))
    image = as_nifti(Image.of(voxels, Grid.of((6, 6, 6), affine, units="mm")))
    view = View.of(image.spec, factor)
    plane, _ = read_plane(image, view, 3, (0,), Box((0, 0), (6, 6)), 100)
    pixels = view.oriented(Stretch((0.0,), (1.0,)).pixels(plane))
    assert view.ends == ("A", "P", "R", "L")
    assert pixels[0, 0, 0] == 255
    assert np.count_nonzero(pixels[..., 0]) == 1


def test_a_large_plane_is_read_in_strips_and_averaged() -> None:
    image = Counting.of(np.ones((4, 1600, 1400)))
    assert isinstance(image, Counting)
    plane, step = read_plane(image, View(0, 1), 0, (0,), Box((0, 0), (1600, 1400)), 500)
    assert (plane.shape, step) == ((1, 400, 350), 4)
    assert image.largest <= 1 << 23


def test_averaging_leaves_out_invalid_voxels_and_keeps_ragged_edges() -> None:
    voxels = np.arange(35, dtype=np.float32).reshape(1, 5, 7)
    voxels[0, 0, 0] = np.nan
    plane, step = read_plane(Image.of(voxels), View(0, 1), 0, (0,), Box((0, 0), (5, 7)), 4)
    assert step == 2
    assert plane.shape == (1, 3, 4)
    assert plane[0, 0, 0] == np.float32(16 / 3)
    assert plane[0, 2, 3] == 34


def test_the_stretch_is_that_of_the_valid_voxels() -> None:
    voxels = np.array([[[np.nan, 0.0, 50.0, 100.0]]], dtype=np.float32)
    pixels = Stretch.fit(voxels, 0, 100).pixels(voxels)
    assert tuple(pixels[0, 0]) == INVALID
    assert pixels[0, 1:, 0].tolist() == [0, 128, 255]


def test_enlarging_repeats_voxels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(enlarged(pixels, 4, 6), pixels.repeat(2, 0).repeat(3, 1))


def test_folds_win_over_one_hard_edge_and_over_invalid_voxels() -> None:
    bright = np.zeros((1, 60, 60), dtype=np.float32)
    bright[0, :, 50:] = 1.0
    bright[0, 20:36, 8:24] = 0.3 * np.random.default_rng(1).random((16, 16))
    bright[0, 45:, :20] = np.random.default_rng(2).random((15, 20))
    bright[0, 45:, :20:4] = np.nan
    row, column = most_detailed(bright, (16, 16))
    assert abs(row - 20) <= 2
    assert abs(column - 8) <= 2
