"""Honest outputs pass, and each planted fault is caught by the check that is made for it."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from geomedsr.degradations.kspace import KSpace
from geomedsr.degradations.sensor import Sensor
from geomedsr.errors import InputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.trust._aligned import Aligned
from geomedsr.trust._degraded import AVERAGE, Linear, averaged, interpolated, linear_part
from geomedsr.trust._shift import Shift
from geomedsr.trust._values import Ends, Holes
from geomedsr.trust.examine import examine, spans
from geomedsr.trust.verify import Check, Verification, judged

ROOT = Path(__file__).parents[2]
SIZE = 144


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module("benchmarks.verify")


@pytest.mark.parametrize("index", [1, 2], ids=["head by cubic", "scene by its model"])
def test_planted_faults_are_caught_and_honest_outputs_pass(index: int, bench: ModuleType) -> None:
    case = list(bench.cases())[index]
    rows = list(bench.rows(case, SIZE))
    assert len(rows) >= 9
    assert [str(row) for row in rows if not row.caught] == []
    assert rows[0].failed == ()


def field(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth random values."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, (0, *(1.5,) * (len(shape) - 1))).astype(np.float32) * 100


def pair(fine: np.ndarray, factor: tuple[int, ...]) -> Aligned:
    coarse = averaged(fine, factor)
    grid = Grid.plain(coarse.shape[1:])
    return Aligned.of(Image.of(coarse, grid), Image.of(fine, grid.upscaled(factor)))


@pytest.mark.parametrize("shape", [(2, 64, 96), (1, 32, 36, 40)])
def test_what_degrades_to_the_input_has_nothing_to_be_told(shape: tuple[int, ...]) -> None:
    found = examine(pair(field(shape), (2,) * (len(shape) - 1)), AVERAGE)
    assert {check.status for check in found.checks} == {"ok"}
    assert np.abs(found.residual).max() < 1e-3
    assert {"shift", "nodata", "consistency", "saturation", "histogram"} <= {c.name for c in found.checks}


def test_blocks_give_what_the_whole_image_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pair(field((2, 128, 160)), (2, 2))
    whole = examine(images, AVERAGE)
    monkeypatch.setattr("geomedsr.trust._aligned._BUDGET", 1 << 12)
    parts = examine(images, AVERAGE)
    assert np.array_equal(whole.residual, parts.residual)
    exact = [
        [(c.name, c.channel, round(c.found, 6)) for c in found.checks if c.name not in ("shift", "detail", "structure")]
        for found in (whole, parts)
    ]
    assert exact[0] == exact[1]


@pytest.mark.parametrize("moved", [(0.25, 0.0), (-0.1, 0.4), (0.0, 0.02)])
def test_a_shift_is_measured_to_hundredths_of_a_voxel(moved: tuple[float, float]) -> None:
    from scipy import ndimage

    y = field((1, 80, 90))
    x = ndimage.shift(y[0], moved, order=5, mode="nearest")[None]
    x[:, 40:44, 30:60] = np.nan
    shift = Shift(2, np.array([100.0]))
    shift.add(x[:, 4:-4, 4:-4], y[:, 4:-4, 4:-4])
    assert shift.voxels == pytest.approx(moved, abs=0.02)
    assert (shift.doubt < 0.02).all()


def test_phase_correlation_says_the_same_where_it_can() -> None:
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    y = field((1, 96, 96))
    x = ndimage.shift(y[0], (0.3, -0.2), order=5, mode="grid-wrap")[None]
    shift = Shift(2, np.array([100.0]))
    shift.add(x, y)
    theirs = phase_cross_correlation(x[0], y[0], upsample_factor=100, normalization=None)[0]
    assert shift.voxels == pytest.approx(theirs, abs=0.03)


def test_nothing_to_compare_is_no_shift() -> None:
    shift = Shift(2, np.array([1.0]))
    shift.add(np.zeros((1, 20, 20), np.float32), np.zeros((1, 20, 20), np.float32))
    assert np.isnan(shift.voxels).all()
    holes = pair(np.full((1, 40, 40), np.nan, np.float32), (2, 2))
    assert {check.status for check in examine(holes, AVERAGE).checks} == {"ok"}


def test_values_at_an_end_are_counted_over_blocks() -> None:
    ends = Ends()
    for values in ([1, 2, 5], [5, 5, 0], [0, 7, 7, 7]):
        ends.add(np.array(values, np.float32))
    assert ends.shares == (0.2, 0.3)


def test_holes_are_told_apart() -> None:
    holes = Holes()
    y = np.array([[np.nan, 1.0]], np.float32)
    x = np.array([[np.nan, 0.0, 1.0, np.nan], [np.nan, np.nan, 1.0, 1.0]], np.float32)
    holes.add(x, y, (2, 2))
    assert (holes.lost, holes.made) == (1, 1)


def test_the_linear_part_of_a_degradation_leaves_out_noise_and_invalid_voxels() -> None:
    x = field((2, 32, 32))
    sensor = linear_part("sensor", Sensor(mtf=0.3, noise=0.5), 2)
    assert sensor is not None
    clean = linear_part("sensor", Sensor(mtf=0.3), 2)
    assert clean is not None
    assert np.array_equal(sensor(x, (2, 2)), clean(x, (2, 2)))
    x[:, 3, 3] = np.nan
    invalid = np.isnan(sensor(x, (2, 2)))
    assert invalid[:, 1, 1].all()
    assert not invalid[:, 8:, 8:].any()
    assert np.isnan(averaged(x, (2, 2))).sum() == 2


def test_a_degradation_that_is_drawn_anew_has_no_linear_part() -> None:
    assert linear_part("sensor", Sensor(mtf=[[0.1, 0.3]]), 4) is None
    assert linear_part("sensor", Sensor(mtf=[0.1, 0.2]), 4) is None
    assert Linear("kspace", KSpace()).halo((2, 2, 1)) == (None, None, 0)


def test_interpolation_keeps_holes() -> None:
    y = field((1, 8, 8))
    y[0, 2, 3] = np.nan
    assert np.isnan(interpolated(y, (2, 3))).sum() == 6


def test_channels_are_matched_by_name_or_refused() -> None:
    def image(names: tuple[str, ...], size: int) -> Image:
        spec = ImageSpec(Grid.plain((size, size)), names, np.dtype(np.float32))
        return Image(spec, np.zeros((len(names), size, size), np.float32))

    assert Aligned.of(image(("a", "b", "c"), 8), image(("c", "a"), 16)).channels == (2, 0)
    assert Aligned.of(image(("a", "b"), 8), image(("x", "y"), 16)).channels == (0, 1)
    with pytest.raises(InputError, match="--bands"):
        Aligned.of(image(("a", "b", "c"), 8), image(("x",), 16))


def test_the_span_leaves_outliers_out() -> None:
    values = np.linspace(0, 1, 10000, dtype=np.float32).reshape(1, 100, 100)
    values[0, 50, 50] = 1e6
    values[0, 1, 1] = np.nan
    assert spans(Image.of(values), (0,))[0] == pytest.approx(1.0, abs=0.01)
    assert spans(Image.of(np.full((1, 4, 4), 3.0)), (0,))[0] == 1.0


def test_a_large_map_lies_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomedsr.trust.examine._IN_MEMORY", 16)
    found = examine(pair(field((1, 40, 40)), (2, 2)), AVERAGE)
    assert isinstance(found.residual, np.memmap)


def test_a_check_is_judged_by_two_limits() -> None:
    assert [judged("a", value, 1, 2).status for value in (1, 1.5, 2.5)] == ["ok", "warn", "fail"]
    assert [judged("a", value, 1, 2).limit for value in (1, 1.5, 2.5)] == [1, 1, 2]


def test_a_verification_is_as_bad_as_its_worst_check_and_survives_json() -> None:
    checks = (judged("a", 0, 1, 2), judged("b", 1.5, 1, 2), Check("c", "fail", 3.0, 2.0, "sd", "red", "why"))
    found = Verification("in.tif", "out.tif", "m", checks)
    assert (found.status, found.exit_code) == ("fail", 1)
    assert Verification.from_json(found.to_json()) == found
    assert (Verification("a", "b").status, Verification("a", "b").exit_code) == ("ok", 0)
    assert judged("a", math.nan, 0, 1).to_json()["found"] is None


def test_a_box_of_the_input_and_of_the_output_are_one_place() -> None:
    images = pair(field((1, 40, 60)), (2, 3))
    block = images.block(Box((4, 4), (8, 8)), Box((2, 2), (10, 10)))
    assert np.allclose(averaged(block.x[block.inner_fine], (2, 3)), block.y[block.inner], atol=1e-4)
