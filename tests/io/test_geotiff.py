from __future__ import annotations

import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.rpc import RPC
from rasterio.transform import Affine

from geomedsr.errors import OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.io import geotiff
from tests.io.raster_support import make, quiet, ramp, repeated, upscale

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
UTM_WKT = CRS.from_epsg(32631).to_wkt(version="WKT1_GDAL")
FACTORS = [(2, 2), (3, 3), (4, 1)]

angles = st.floats(-180, 180)
sizes = st.floats(1e-5, 1e3)


@st.composite
def transforms(draw: Any) -> Affine:
    """Rotated, sheared, mirrored and south-up transforms with voxels of any size, far from the origin or near."""
    flip = draw(st.sampled_from([-1.0, 1.0]))
    turn, shear = np.radians(draw(angles)), np.tan(np.radians(draw(st.floats(-30, 30))))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    (a, b), (d, e) = turned @ [[1, shear], [0, 1]] @ np.diag([draw(sizes), flip * draw(sizes)])
    return Affine(a, b, draw(st.floats(-1e6, 1e6)), d, e, draw(st.floats(-1e7, 1e7)))


def at(transform: Affine, column: float, row: float) -> tuple[float, float]:
    t = transform
    return (t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f)


def corners(dataset: Any) -> np.ndarray[Any, Any]:
    rows, columns = dataset.shape
    return np.array([at(dataset.transform, c, r) for r in (0, rows) for c in (0, columns)])


class TestGeometry:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(transform=transforms(), factor=st.sampled_from(FACTORS), point=st.booleans())
    def test_extent_is_kept_for_any_affine(
        self, tmp_path: Path, transform: Affine, factor: tuple[int, int], point: bool
    ) -> None:
        dress = (lambda d: d.update_tags(AREA_OR_POINT="Point")) if point else None
        make(tmp_path / "in.tif", ramp(1, 7, 9, "uint8"), dress, transform=transform)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", factor)
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.shape == (7 * factor[0], 9 * factor[1])
            assert after.crs == before.crs
            assert after.tags() == before.tags()
            size = max(np.abs(corners(before)).max(), 1e-9)
            np.testing.assert_allclose(corners(after), corners(before), rtol=0, atol=1e-9 * size)

    def test_axes_are_rows_then_columns(self, tmp_path: Path) -> None:
        transform = Affine(2.0, 0.5, 100.0, 0.25, -3.0, 200.0)
        spec = geotiff.open_source(make(tmp_path / "a.tif", ramp(1, 4, 6, "uint8"), transform=transform)).spec
        assert spec.grid.shape == (4, 6)
        for row, col in ((0, 0), (4, 6), (1.5, 2.5)):
            np.testing.assert_allclose(spec.grid.world((row, col)), at(transform, col, row))

    @pytest.mark.parametrize(("crs", "units"), [("EPSG:32633", "m"), ("EPSG:4326", "degree"), ("EPSG:2263", "us-ft")])
    def test_units_are_those_of_the_crs(self, tmp_path: Path, crs: str, units: str) -> None:
        spec = geotiff.open_source(make(tmp_path / "a.tif", ramp(1, 4, 6, "uint8"), crs=crs)).spec
        assert spec.grid.units == units
        assert CRS.from_wkt(spec.grid.crs) == CRS.from_string(crs)

    def test_no_place_in_the_world_stays_none(self, tmp_path: Path) -> None:
        make(tmp_path / "in.tif", ramp(2, 5, 5, "uint8"), placed=False)
        assert geotiff.open_source(tmp_path / "in.tif").spec.grid == Grid.plain((5, 5))
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            assert after.transform == Affine.identity()
            assert after.crs is None
            assert after.tags() == {}

    @pytest.mark.parametrize("kind", ["Area", "Point"])
    @pytest.mark.parametrize("factor", FACTORS)
    def test_control_points_are_at_the_same_place(self, tmp_path: Path, kind: str, factor: tuple[int, int]) -> None:
        places = [(0, 0), (8, 0), (8, 8), (3.25, 4.5)]
        points = [GroundControlPoint(r, c, 10 + c, 20 - r, 5 + i) for i, (r, c) in enumerate(places)]

        def dress(dataset: Any) -> None:
            dataset.update_tags(AREA_OR_POINT=kind)
            dataset.gcps = (points, CRS.from_epsg(4326))

        make(tmp_path / "in.tif", ramp(1, 8, 8, "uint8"), dress, placed=False)
        assert geotiff.open_source(tmp_path / "in.tif").spec.grid == Grid.plain((8, 8))
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", factor)
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.gcps[1] == before.gcps[1]
            expected = [(p.row * factor[0], p.col * factor[1], p.x, p.y, p.z) for p in before.gcps[0]]
            found = [(p.row, p.col, p.x, p.y, p.z) for p in after.gcps[0]]
            np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_rational_polynomials_are_rescaled(self, tmp_path: Path) -> None:
        numbers = {"height_off": 100.0, "height_scale": 50.0, "lat_off": 45.0, "lat_scale": 0.1}
        numbers |= {"long_off": 9.0, "long_scale": 0.2}
        lines = {"line_off": 5.5, "line_scale": 6.0, "samp_off": 4.25, "samp_scale": 4.5}
        names = ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff")
        polynomials = {name: [i + 0.125 * j for j in range(20)] for i, name in enumerate(names)}
        rpcs = RPC(**numbers, **lines, **polynomials, err_bias=1.5, err_rand=0.25)
        make(tmp_path / "in.tif", ramp(1, 8, 8, "uint8"), lambda d: setattr(d, "rpcs", rpcs), placed=False)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", (3, 2))
        with quiet(tmp_path / "out.tif") as after:
            found = after.rpcs.to_dict()
        assert found["line_off"] == 3 * 5.5 + 1
        assert found["line_scale"] == 18
        assert found["samp_off"] == 2 * 4.25 + 0.5
        assert found["samp_scale"] == 9
        kept = {**rpcs.to_dict(), **{key: found[key] for key in lines}}
        assert found == kept


class TestVoxels:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("nodata", [None, 12])
    def test_dtype_and_nodata_come_back(self, tmp_path: Path, dtype: str, nodata: float | None) -> None:
        voxels = ramp(2, 9, 20, dtype)
        make(tmp_path / "in.tif", voxels, nodata=nodata)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            assert after.dtypes == (dtype, dtype)
            assert after.nodatavals == (nodata, nodata)
            np.testing.assert_array_equal(after.read(), repeated(voxels, (2, 2)))

    def test_nan_is_nodata(self, tmp_path: Path) -> None:
        voxels = ramp(1, 6, 6, "float32")
        voxels[0, 2, 3] = np.nan
        make(tmp_path / "in.tif", voxels, nodata=np.nan)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            assert math.isnan(after.nodata)
            np.testing.assert_array_equal(after.read(), repeated(voxels, (2, 2)))

    def test_nodata_outside_of_the_dtype_hides_nothing(self, tmp_path: Path) -> None:
        voxels = ramp(1, 6, 6, "uint8")
        make(tmp_path / "in.tif", voxels)
        side = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>"
        (tmp_path / "in.tif.aux.xml").write_text(side)
        source = geotiff.open_source(tmp_path / "in.tif")
        np.testing.assert_array_equal(source.read(Box.whole((6, 6))), voxels)

    @pytest.mark.parametrize("options", [None, {"FORMAT": "COG"}])
    def test_each_band_keeps_its_own_nodata(self, tmp_path: Path, options: dict[str, str] | None) -> None:
        voxels = ramp(3, 6, 6, "int16")
        make(tmp_path / "part.tif", voxels)
        bands = "".join(
            f"""<VRTRasterBand dataType="Int16" band="{i}">{nodata}<SimpleSource>
            <SourceFilename relativeToVRT="1">part.tif</SourceFilename><SourceBand>{i}</SourceBand>
            </SimpleSource></VRTRasterBand>"""
            for i, nodata in ((1, "<NoDataValue>15</NoDataValue>"), (2, ""), (3, "<NoDataValue>90</NoDataValue>"))
        )
        (tmp_path / "in.vrt").write_text(f'<VRTDataset rasterXSize="6" rasterYSize="6">{bands}</VRTDataset>')
        read = geotiff.open_source(tmp_path / "in.vrt").read(Box.whole((6, 6)))
        for band, nodata in enumerate((15, -1, 90)):
            np.testing.assert_array_equal(np.isnan(read[band]), voxels[band] == nodata)
        upscale(tmp_path / "in.vrt", tmp_path / "out.tif", options=options)
        with quiet(tmp_path / "out.tif") as after:
            assert after.nodatavals == (15, None, 90)
            np.testing.assert_array_equal(after.read(), repeated(voxels, (2, 2)))
            np.testing.assert_array_equal(after.read_masks() == 0, repeated(np.isnan(read), (2, 2)))

    def test_scale_and_offset_are_applied_and_inverted(self, tmp_path: Path) -> None:
        voxels = ramp(2, 6, 6, "int16")

        def dress(dataset: Any) -> None:
            dataset.scales, dataset.offsets, dataset.units = (0.0001, 2.0), (-0.1, 273.15), ("1", "K")

        make(tmp_path / "in.tif", voxels, dress, nodata=11)
        read = geotiff.open_source(tmp_path / "in.tif").read(Box.whole((6, 6)))
        assert read.dtype == np.float32
        expected = np.where(voxels[0] == 11, np.nan, voxels[0] * 0.0001 - 0.1)
        np.testing.assert_allclose(read[0], expected, rtol=1e-6)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            assert (after.scales, after.offsets, after.units) == ((0.0001, 2.0), (-0.1, 273.15), ("1", "K"))
            np.testing.assert_array_equal(after.read(), repeated(voxels, (2, 2)))

    def test_values_saturate_and_none_becomes_nodata(self, tmp_path: Path) -> None:
        make(tmp_path / "in.tif", ramp(1, 1, 6, "uint8"), nodata=0)
        spec = geotiff.open_source(tmp_path / "in.tif").spec
        sink = geotiff.create_sink(tmp_path / "out.tif", spec)
        values = np.array([[[-7.0, 0.25, 300.0, np.nan, 2.5, 3.5]]], np.float32)
        sink.write(Box.whole((1, 6)), values)
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            np.testing.assert_array_equal(after.read(), [[[1, 1, 255, 0, 2, 4]]])

    def test_another_dtype_may_be_asked_for(self, tmp_path: Path) -> None:
        voxels = ramp(1, 6, 6, "float32")
        voxels[0, 0, 0] = np.nan
        make(tmp_path / "in.tif", voxels, nodata=np.nan)
        as_bytes = lambda spec: replace(spec, dtype=np.dtype("uint8"))  # noqa: E731
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", change=as_bytes)
        with quiet(tmp_path / "out.tif") as after:
            assert after.dtypes == ("uint8",)
            assert after.nodata is None
            assert after.mask_flag_enums == ([MaskFlags.per_dataset],)
            np.testing.assert_array_equal(after.read_masks(1) == 0, repeated(np.isnan(voxels[0]), (2, 2)))

    def test_a_band_hides_no_other_in_another_dtype(self, tmp_path: Path) -> None:
        voxels = ramp(2, 6, 6, "float32") + 200
        voxels[0, :3], voxels[1, 5, 5] = np.nan, np.nan
        make(tmp_path / "in.tif", voxels)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", change=lambda spec: replace(spec, dtype=np.dtype("uint8")))
        with quiet(tmp_path / "out.tif") as after:
            assert after.nodatavals == (255, 255)
            np.testing.assert_array_equal(after.read_masks() == 0, repeated(np.isnan(voxels), (2, 2)))
            shown = ~np.isnan(voxels[1])
            expected = np.minimum(voxels[1], 254)[shown]
            np.testing.assert_array_equal(after.read(2)[::2, ::2][shown], expected)

    def test_a_source_travels_to_another_process(self, tmp_path: Path) -> None:
        source = geotiff.open_source(make(tmp_path / "in.tif", ramp(2, 9, 9, "uint8")))
        box = Box((2, 3), (5, 9))
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301
        np.testing.assert_array_equal(copy.read(box), source.read(box))
        source.close()
        np.testing.assert_array_equal(copy.read(box), source.read(box))

    def test_reading_and_writing_may_each_have_a_thread(self, tmp_path: Path) -> None:
        make(tmp_path / "in.tif", ramp(2, 40, 40, "uint16"), placed=False, tiled=True, blockxsize=16, blockysize=16)
        source = geotiff.open_source(tmp_path / "in.tif")
        sink = geotiff.create_sink(tmp_path / "out.tif", source.spec)
        source.close()
        boxes = list(Box.whole((40, 40)).split((16, 16)))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            for box, voxels in zip(boxes, reader.map(source.read, boxes), strict=True):
                writer.submit(sink.write, box, voxels).result()
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            np.testing.assert_array_equal(after.read(), ramp(2, 40, 40, "uint16"))


class TestMasks:
    @pytest.mark.parametrize("internal", [True, False])
    @pytest.mark.parametrize("options", [None, {"FORMAT": "COG"}])
    def test_a_mask_comes_back(self, tmp_path: Path, internal: bool, options: dict[str, str] | None) -> None:
        voxels, mask = ramp(3, 9, 20, "uint8"), ramp(1, 9, 20, "uint8")[0] % 3 > 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
            make(tmp_path / "in.tif", voxels, lambda d: d.write_mask(mask))
        assert (tmp_path / "in.tif.msk").exists() != internal
        read = geotiff.open_source(tmp_path / "in.tif").read(Box.whole((9, 20)))
        np.testing.assert_array_equal(np.isnan(read), np.broadcast_to(~mask, voxels.shape))
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", options=options)
        with quiet(tmp_path / "out.tif") as after:
            assert after.mask_flag_enums[0] == [MaskFlags.per_dataset]
            np.testing.assert_array_equal(after.read_masks(1) > 0, repeated(mask, (2, 2)))
            np.testing.assert_array_equal(after.read(2), repeated(voxels[1] * mask, (2, 2)))

    @pytest.mark.parametrize("position", [1, 2, 4])
    def test_alpha_is_kept_and_is_no_channel(self, tmp_path: Path, position: int) -> None:
        voxels = ramp(4, 6, 8, "uint8")
        alpha = np.array([0, 1, 128, 255], np.uint8).repeat(12).reshape(6, 8)
        voxels[position - 1] = alpha
        colours = [ColorInterp.gray] + [ColorInterp.undefined] * 2
        colours.insert(position - 1, ColorInterp.alpha)
        make(tmp_path / "in.tif", voxels, lambda d: setattr(d, "colorinterp", colours), photometric="MINISBLACK")
        source = geotiff.open_source(tmp_path / "in.tif")
        assert len(source.spec.channels) == 3
        np.testing.assert_array_equal(np.isnan(source.read(Box.whole((6, 8)))[0]), alpha == 0)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", (3, 3))
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.colorinterp == before.colorinterp
            np.testing.assert_array_equal(after.read(position), repeated(alpha, (3, 3)))
            np.testing.assert_array_equal(after.read_masks(), repeated(before.read_masks(), (3, 3)))

    @pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "uint64", "float32"])
    def test_opaque_stays_opaque_in_another_dtype(self, tmp_path: Path, dtype: str) -> None:
        voxels = ramp(2, 4, 8, "uint8")
        voxels[1] = np.array([0, 1, 128, 255], np.uint8).repeat(8).reshape(4, 8)
        make(tmp_path / "in.tif", voxels, lambda d: setattr(d, "colorinterp", [ColorInterp.gray, ColorInterp.alpha]))
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", change=lambda spec: replace(spec, dtype=np.dtype(dtype)))
        full = 255 if dtype == "float32" else np.iinfo(dtype).max
        with quiet(tmp_path / "out.tif") as after:
            alpha = after.read(2)
            assert alpha[0, 0] == 0
            assert alpha[-1, -1] == full
            np.testing.assert_allclose(alpha / full, repeated(voxels[1], (2, 2)) / 255, atol=1e-4)
        upscale(
            tmp_path / "out.tif",
            tmp_path / "again.tif",
            (1, 1),
            change=lambda spec: replace(spec, dtype=np.dtype("uint8")),
        )
        with quiet(tmp_path / "again.tif") as after:
            np.testing.assert_array_equal(after.read(2), repeated(voxels[1], (2, 2)))

    def test_alpha_is_on_or_off_when_the_coarse_file_is_gone(self, tmp_path: Path) -> None:
        voxels = ramp(2, 6, 8, "uint16")
        voxels[1] = np.array([0, 9, 65535], np.uint16).repeat(16).reshape(6, 8)
        make(tmp_path / "in.tif", voxels, lambda d: setattr(d, "colorinterp", [ColorInterp.gray, ColorInterp.alpha]))
        source = geotiff.open_source(tmp_path / "in.tif")
        read = source.read(Box.whole((6, 8)))
        (tmp_path / "in.tif").unlink()
        sink = geotiff.create_sink(tmp_path / "out.tif", source.spec)
        sink.write(Box.whole((6, 8)), read)
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            np.testing.assert_array_equal(after.read(2), np.where(voxels[1] == 0, 0, 65535))

    def test_masks_of_each_band_are_heard(self, tmp_path: Path) -> None:
        voxels = ramp(2, 6, 8, "uint8")
        make(tmp_path / "part.tif", np.concatenate([voxels, 255 * (voxels % 2)]))
        source = """<SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename>
            <SourceBand>{}</SourceBand></SimpleSource>"""
        bands = "".join(
            f"""<VRTRasterBand dataType="Byte" band="{i}">{source.format(i)}<MaskBand>
            <VRTRasterBand dataType="Byte">{source.format(i + 2)}</VRTRasterBand></MaskBand></VRTRasterBand>"""
            for i in (1, 2)
        )
        (tmp_path / "in.vrt").write_text(f'<VRTDataset rasterXSize="8" rasterYSize="6">{bands}</VRTDataset>')
        read = geotiff.open_source(tmp_path / "in.vrt").read(Box.whole((6, 8)))
        np.testing.assert_array_equal(np.isnan(read), voxels % 2 == 0)
        upscale(tmp_path / "in.vrt", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            hidden = (voxels % 2 == 0).any(axis=0)
            np.testing.assert_array_equal(after.read_masks(1) == 0, repeated(hidden, (2, 2)))

    def test_a_band_with_a_name_of_its_own_is_data_whatever_its_colour(self, tmp_path: Path) -> None:
        make(tmp_path / "in.tif", ramp(4, 6, 8, "uint8"), lambda d: setattr(d, "descriptions", ("r", "g", "b", "nir")))
        with quiet(tmp_path / "in.tif") as before:
            assert before.colorinterp[3] == ColorInterp.alpha
        assert geotiff.open_source(tmp_path / "in.tif").spec.channels == ("r", "g", "b", "nir")
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.colorinterp == before.colorinterp
            np.testing.assert_array_equal(after.read(), repeated(before.read(), (2, 2)))


class TestMetadata:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("options", [None, {"FORMAT": "COG"}])
    def test_colours_are_names_where_there_is_no_other(
        self, tmp_path: Path, dtype: str, options: dict[str, str] | None
    ) -> None:
        def dress(dataset: Any) -> None:
            dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            dataset.set_band_description(2, "g")

        make(tmp_path / "in.tif", ramp(4, 6, 6, dtype), dress, photometric="RGB")
        assert geotiff.open_source(tmp_path / "in.tif").spec.channels == ("red", "g", "blue")
        swapped = lambda spec: spec.with_channels((2, 0))  # noqa: E731
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", options=options)
        upscale(tmp_path / "in.tif", tmp_path / "part.tif", options=options, change=swapped)
        assert geotiff.open_source(tmp_path / "out.tif").spec.channels == ("red", "g", "blue")
        assert geotiff.open_source(tmp_path / "part.tif").spec.channels == ("blue", "red")
        with quiet(tmp_path / "out.tif") as after:
            assert after.descriptions == (None, "g", None, None)

    def test_a_colour_that_several_have_is_no_name(self, tmp_path: Path) -> None:
        twice = lambda d: setattr(d, "colorinterp", [ColorInterp.red, ColorInterp.red])  # noqa: E731
        make(tmp_path / "in.tif", ramp(2, 6, 6, "uint16"), twice)
        spec = geotiff.open_source(tmp_path / "in.tif").spec
        assert spec.channels == ("band 1", "band 2")
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", change=lambda spec: spec.with_channels((1,)))
        promised = geotiff.target_spec(tmp_path / "out.tif", spec.with_channels((1,)))
        assert geotiff.open_source(tmp_path / "out.tif").spec.channels == promised.channels == ("red",)

    def dressed(self, path: Path) -> Path:
        def dress(dataset: Any) -> None:
            dataset.descriptions = ("blue", None, "nïr")
            dataset.colorinterp = [ColorInterp.blue, ColorInterp.gray, ColorInterp.undefined]
            dataset.update_tags(A="1", TIFFTAG_SOFTWARE="someone", B="x=y")
            dataset.update_tags(ns="PLATFORM", orbit="12")
            dataset.update_tags(ns="xml:XMP", **{"<x:xmpmeta xmlns:x": "'adobe:ns:meta/'><a b='c'/></x:xmpmeta>"})
            dataset.update_tags(3, wavelength="842", STATISTICS_MEAN="3")
            dataset.update_tags(2, ns="BANDS", k="v")

        return make(path, ramp(3, 6, 8, "uint16"), dress)

    @pytest.mark.parametrize("options", [None, {"FORMAT": "COG"}])
    def test_everything_survives_but_statistics(self, tmp_path: Path, options: dict[str, str] | None) -> None:
        self.dressed(tmp_path / "in.tif")
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", options=options)
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.descriptions == before.descriptions
            assert after.colorinterp == before.colorinterp
            for namespace in (None, "PLATFORM", "xml:XMP"):
                found = after.tags(ns=namespace)
                found.pop("OVR_RESAMPLING_ALG", None)
                assert found == before.tags(ns=namespace)
            assert after.tags(1) == {}
            assert after.tags(2, ns="BANDS") == {"k": "v"}
            assert after.tags(3) == {"wavelength": "842"}

    def test_metadata_follows_chosen_channels(self, tmp_path: Path) -> None:
        self.dressed(tmp_path / "in.tif")
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", change=lambda spec: spec.with_channels((2, 0)))
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.descriptions == ("nïr", "blue")
            assert after.tags(1) == {"wavelength": "842"}
            np.testing.assert_array_equal(after.read(), repeated(before.read([3, 1]), (2, 2)))

    def test_channels_are_named(self, tmp_path: Path) -> None:
        assert geotiff.open_source(self.dressed(tmp_path / "in.tif")).spec.channels == ("blue", "band 2", "nïr")

    def test_a_palette_is_told_and_kept(self, tmp_path: Path) -> None:
        colours = {i: (i, 255 - i, 7, 255) for i in range(256)}
        make(tmp_path / "in.tif", ramp(1, 6, 8, "uint8"), lambda d: d.write_colormap(1, colours))
        assert geotiff.open_source(tmp_path / "in.tif").spec.extra["palette"] is True
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "out.tif") as after:
            assert after.colormap(1) == colours
            assert after.colorinterp == (ColorInterp.palette,)

    @pytest.mark.parametrize("colour", ["rgb", "minisblack"])
    def test_the_sense_of_three_bands_is_kept(self, tmp_path: Path, colour: str) -> None:
        make(tmp_path / "in.tif", ramp(3, 6, 8, "uint8"), photometric=colour)
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        with quiet(tmp_path / "in.tif") as before, quiet(tmp_path / "out.tif") as after:
            assert after.colorinterp == before.colorinterp
            assert before.colorinterp[0] == (ColorInterp.red if colour == "rgb" else ColorInterp.gray)


class TestSink:
    def foreign(self, **changes: Any) -> ImageSpec:
        grid = Grid.of((20, 30), np.array([[0.0, 2.0, 5.0], [-2.0, 0.0, 9.0], [0.0, 0.0, 1.0]]))
        return replace(ImageSpec(grid, ("red", "green", "blue"), np.dtype("uint8")), **changes)

    def test_an_image_of_another_format_is_written_from_its_spec(self, tmp_path: Path) -> None:
        spec = self.foreign()
        sink = geotiff.create_sink(tmp_path / "out.tif", spec)
        voxels = ramp(3, 20, 30, "float32")
        voxels[:, 3, 4] = np.nan
        sink.write(Box.whole((20, 30)), voxels)
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            assert after.descriptions == ("red", "green", "blue")
            assert after.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            assert after.transform == Affine(2.0, 0.0, 5.0, 0.0, -2.0, 9.0)
            np.testing.assert_array_equal(after.read_masks() == 0, np.isnan(voxels))
        again = geotiff.open_source(tmp_path / "out.tif")
        np.testing.assert_array_equal(again.read(Box.whole((20, 30))), voxels)

    def test_floats_of_another_format_have_nan_as_nodata(self, tmp_path: Path) -> None:
        sink = geotiff.create_sink(tmp_path / "out.tif", self.foreign(dtype=np.dtype(">f4")))
        sink.write(Box.whole((20, 30)), np.full((3, 20, 30), np.nan, np.float32))
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            assert math.isnan(after.nodata)
            assert after.dtypes == ("float32",) * 3

    @pytest.mark.parametrize("crs", ["EPSG:7415", "EPSG:5555", "EPSG:28992+5709", "EPSG:32632+5773", "ESRI:102003"])
    def test_a_crs_comes_out_as_it_went_in(self, tmp_path: Path, crs: str) -> None:
        path = make(tmp_path / "a.tif", ramp(1, 4, 6, "uint8"), crs=crs)
        with quiet(path) as before, quiet(upscale(path, tmp_path / "b.tif")) as after:
            assert after.crs == before.crs == CRS.from_user_input(crs)
            assert after.crs.to_authority() == before.crs.to_authority()
        specs = [geotiff.open_source(tmp_path / name).spec for name in ("a.tif", "b.tif")]
        assert specs[0].grid.crs == specs[1].grid.crs

    @pytest.mark.parametrize("crs", ["EPSG:32633", "epsg:2263", "+proj=utm +zone=33 +datum=WGS84 +type=crs", UTM_WKT])
    def test_a_crs_may_be_told_in_any_form(self, tmp_path: Path, crs: str) -> None:
        spec = self.foreign(grid=replace(self.foreign().grid, crs=crs))
        promised = geotiff.target_spec(tmp_path / "out.tif", spec)
        sink = geotiff.create_sink(tmp_path / "out.tif", spec)
        sink.write(Box.whole((20, 30)), ramp(3, 20, 30, "float32"))
        sink.commit()
        assert geotiff.open_source(tmp_path / "out.tif").spec.grid.crs == promised.grid.crs
        with quiet(tmp_path / "out.tif") as after:
            assert after.crs == CRS.from_user_input(crs)

    @pytest.mark.parametrize("crs", ["EPSG:1", "somewhere", 'PROJCS["cut short', ""])
    def test_a_crs_that_is_none_is_refused(self, tmp_path: Path, crs: str) -> None:
        with pytest.raises(OutputError, match="is no CRS known here"):
            geotiff.create_sink(tmp_path / "out.tif", self.foreign(grid=replace(self.foreign().grid, crs=crs)))
        assert os.listdir(tmp_path) == []

    def test_blocks_may_come_in_any_order(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        voxels = ramp(3, 100, 150, "float32")
        sink = geotiff.create_sink(
            tmp_path / "out.tif", self.foreign(grid=Grid.plain((100, 150))), {"BLOCKSIZE": "32", "INTERLEAVE": "PIXEL"}
        )
        assert sink.spec.chunks == (32, 32)
        boxes = list(Box.whole((100, 150)).split((24, 40)))
        for i in rng.permutation(len(boxes)):
            sink.write(boxes[i], voxels[(slice(None), *boxes[i].slices)])
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            assert after.block_shapes[0] == (32, 32)
            assert after.compression.value == "DEFLATE"
            np.testing.assert_array_equal(after.read(), voxels.astype("uint8"))

    def test_a_cog_is_tiled_and_has_overviews(self, tmp_path: Path) -> None:
        spec = self.foreign(grid=Grid.of((700, 1100), self.foreign().grid.matrix))
        options = {"format": "cog", "BLOCKSIZE": "256", "OVERVIEW_RESAMPLING": "average", "compress": "zstd"}
        sink = geotiff.create_sink(tmp_path / "out.tif", spec, options)
        for box in Box.whole((700, 1100)).split((512, 512)):
            sink.write(box, np.full((3, *box.shape), 7, np.float32))
        sink.commit()
        with quiet(tmp_path / "out.tif") as after:
            assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert after.block_shapes == [(256, 256)] * 3
            assert after.overviews(1) == [2, 4, 8]
            assert after.compression.value == "ZSTD"
            assert after.transform == Affine(2.0, 0.0, 5.0, 0.0, -2.0, 9.0)
        assert os.listdir(tmp_path) == ["out.tif"]

    def test_what_belonged_to_the_replaced_file_goes_with_it(self, tmp_path: Path) -> None:
        make(tmp_path / "in.tif", ramp(1, 6, 8, "uint8"))
        for suffix in (".ovr", ".msk", ".aux.xml"):
            (tmp_path / f"out.tif{suffix}").write_bytes(b"old")
        upscale(tmp_path / "in.tif", tmp_path / "out.tif")
        assert sorted(os.listdir(tmp_path)) == ["in.tif", "out.tif"]

    def test_nothing_appears_before_commit_or_after_abort(self, tmp_path: Path) -> None:
        (tmp_path / "out.tif").write_bytes(b"the old file")
        sink = geotiff.create_sink(tmp_path / "out.tif", self.foreign())
        sink.write(Box((0, 0), (8, 30)), np.zeros((3, 8, 30), np.float32))
        assert (tmp_path / "out.tif").read_bytes() == b"the old file"
        sink.abort()
        sink.abort()
        assert os.listdir(tmp_path) == ["out.tif"]
        assert (tmp_path / "out.tif").read_bytes() == b"the old file"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"grid": Grid.plain((4, 5, 6))}, "2 axes"),
            ({"dtype": np.dtype("complex64")}, "cannot store complex64"),
            ({"dtype": np.dtype("float16")}, "cannot store float16"),
            ({"dtype": np.dtype([("R", "u1"), ("G", "u1")])}, "cannot store"),
        ],
    )
    def test_what_a_geotiff_cannot_hold_is_refused(self, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(OutputError, match=says):
            geotiff.create_sink(tmp_path / "out.tif", self.foreign(**changes))
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"COLOUR": "RED"}, "no option COLOUR"),
            ({"COMPRESS": "ZIP"}, "COMPRESS is one of"),
            ({"ZLEVEL": "high"}, "ZLEVEL is a number from 1 to 12"),
            ({"BLOCKXSIZE": "100"}, "multiple of 16"),
            ({"BLOCKYSIZE": "32", "BLOCKXSIZE": "64", "FORMAT": "COG"}, "square"),
            ({"OVERVIEW_RESAMPLING": "CUBIC"}, "no overviews"),
        ],
    )
    def test_options_are_checked(self, tmp_path: Path, options: dict[str, str], says: str) -> None:
        with pytest.raises(OutputError, match=says):
            geotiff.create_sink(tmp_path / "out.tif", self.foreign(), options)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("name", ["out.jp2", "out.vrt"])
    def test_some_formats_are_only_read(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match=r"write \.tif"):
            geotiff.create_sink(tmp_path / name, self.foreign())


@pytest.mark.real
def test_real_rasters_come_back(tmp_path: Path) -> None:
    folder = os.environ.get("GEOMEDSR_DATA")
    if not folder:
        pytest.skip("GEOMEDSR_DATA does not point to real images")
    files = sorted(path for path in Path(folder, "raster").glob("*.*") if path.stat().st_size < 2_000_000)
    if not files:
        pytest.skip("there is no small raster under GEOMEDSR_DATA/raster")
    for path in files:
        out = upscale(path, tmp_path / f"{path.stem}.tif")
        with quiet(path) as before, quiet(out) as after:
            np.testing.assert_array_equal(after.read(), repeated(before.read(), (2, 2)))
            np.testing.assert_array_equal(after.read_masks(), repeated(before.read_masks(), (2, 2)))
            for name in ("crs", "dtypes", "descriptions", "colorinterp", "mask_flag_enums", "scales", "offsets"):
                assert getattr(after, name) == getattr(before, name), (path.name, name)
            np.testing.assert_array_equal(np.array(after.nodatavals, float), np.array(before.nodatavals, float))
            assert after.tags() == before.tags()
