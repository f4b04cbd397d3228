from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geomedsr.grid import Grid
from geomedsr.image import ImageSpec, Scaling
from geomedsr.io._coding import Coding, fitting_nodata, holds, nodata_without_mask, spare_nodata
from tests.io.raster_support import make

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@st.composite
def codings(draw: st.DrawFn) -> Coding:
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    info: Any = np.iinfo(dtype)
    near = st.integers(max(info.min, -(2**20)), min(info.max, 2**20))
    nodata = draw(st.one_of(st.none(), near, st.sampled_from([info.min, 0])))
    return Coding(dtype, None if nodata is None else float(nodata))


@given(codings(), st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_stored_values_saturate_and_tell_valid_from_invalid(coding: Coding, values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    stored = coding.store(given_values.copy())
    info = np.iinfo(coding.dtype)
    assert stored.dtype == coding.dtype
    invalid = np.isnan(given_values)
    if coding.nodata is not None:
        np.testing.assert_array_equal(stored == coding.dtype.type(coding.nodata), invalid)
    for value, kept in zip(given_values[~invalid].astype(float), stored[~invalid].tolist(), strict=True):
        wanted = min(max(value, float(info.min)), float(info.max))
        assert abs(kept - wanted) <= 1.5 + 1e-3 * (coding.dtype.itemsize == 8) * abs(wanted) + 1e-9 * abs(wanted)


@given(codings())
def test_what_is_stored_comes_back(coding: Coding) -> None:
    info = np.iinfo(coding.dtype)
    # float32 holds whole numbers up to 2**24.
    values = np.linspace(max(info.min, -(2**24)), min(info.max, 2**24), 99).astype(coding.dtype)
    np.testing.assert_array_equal(coding.store(coding.physical(values)), values)


def test_halves_go_to_the_even_number() -> None:
    stored = Coding(np.dtype("int16")).store(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32))
    np.testing.assert_array_equal(stored, [0, 2, 2, 0, -2])


@pytest.mark.parametrize(("nodata", "expected"), [(0.0, [1, 1, 1]), (255.0, [0, 1, 254]), (1.0, [0, 2, 255])])
def test_a_valid_value_is_moved_off_nodata(nodata: float, expected: list[int]) -> None:
    coding = Coding(np.dtype("uint8"), nodata)
    values = np.array([0.0, 1.25, 255.0], np.float32)
    if nodata == 0.0:
        values = np.array([-4.0, 0.25, 1.0], np.float32)
    np.testing.assert_array_equal(coding.store(values), expected)


@pytest.mark.parametrize("nodata", [0.0, -9999.0, -3.4028234663852886e38])
def test_a_valid_float_is_moved_off_nodata(nodata: float) -> None:
    coding = Coding(np.dtype("float32"), nodata)
    stored = coding.store(np.array([nodata, np.nan, 5.0, np.inf], np.float32))
    assert stored[0] != np.float32(nodata)
    assert stored[1] == np.float32(nodata)
    np.testing.assert_array_equal(np.isnan(coding.physical(stored)), [False, True, False, False])
    assert stored[3] == np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodata", [-3.402823e38, 0.1, -9999.0, 1e-30, 0.0, 1e-40])
def test_nodata_of_few_digits_is_what_gdal_takes_for_it(tmp_path: Path, dtype: str, nodata: float) -> None:
    near = float(np.float32(nodata)) + np.arange(-20, 20) * float(np.spacing(np.float32(nodata)))
    values = near[np.abs(near) <= np.finfo(np.float32).max]
    values = np.append(values, [nodata, -1e30, -2e31]).astype(dtype)
    path = make(tmp_path / "a.tif", values[None, None], nodata=float(np.dtype(dtype).type(nodata)))
    with rasterio.open(path) as dataset:
        hidden = dataset.read_masks(1)[0] == 0
    coding = Coding(np.dtype(dtype), nodata)
    np.testing.assert_array_equal(np.isnan(coding.physical(values)), hidden)
    assert hidden.any()
    assert not np.isnan(coding.physical(coding.store(values))).any()


def test_scaled_values_come_back() -> None:
    coding = Coding(np.dtype("int16"), -32768.0, Scaling(1e-4, -0.1))
    stored = np.arange(-32768, 32767, 13).astype("int16")
    np.testing.assert_array_equal(coding.store(coding.physical(stored)), stored)


def test_nodata_that_does_not_fit_another_dtype() -> None:
    assert fitting_nodata(-9999.0, np.dtype("uint8")) is None
    assert fitting_nodata(-9999.0, np.dtype("int16")) == -9999.0
    np.testing.assert_equal(fitting_nodata(-1.7976931348623157e308, np.dtype("float32")), np.nan)
    assert not holds(np.dtype("int16"), 0.5)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize("has_holes", [True, False])
def test_invalid_voxels_get_a_number_that_the_dtype_has(dtype: str, has_holes: bool) -> None:
    spec = ImageSpec(Grid.plain((4, 5)), ("a",), np.dtype(dtype), has_holes=has_holes)
    nodata = nodata_without_mask(spec)
    assert nodata == (spare_nodata(spec.dtype) if has_holes else None)
    if nodata is not None:
        coding = Coding(spec.dtype, nodata)
        again = coding.physical(coding.store(np.array([nodata, 0.0, 7.0, 1e30, -1e30, np.nan])))
        np.testing.assert_array_equal(np.isnan(again), [False] * 5 + [True])
        np.testing.assert_array_equal(again[1:3], [0.0, 7.0])


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_wide_types_reach_their_ends(dtype: str) -> None:
    info = np.iinfo(dtype)
    stored = Coding(np.dtype(dtype)).store(np.array([1e30, -1e30, np.inf], np.float32))
    assert stored.tolist() == [info.max, info.min, info.max]


def test_nan_without_nodata_stands_for_the_physical_zero() -> None:
    assert Coding(np.dtype("int16"), scaling=Scaling(2, -1024)).store(np.array([np.nan, 100.0])).tolist() == [512, 562]
    assert Coding(np.dtype("bool")).store(np.array([np.nan, 0.4, 0.6])).tolist() == [False, False, True]
