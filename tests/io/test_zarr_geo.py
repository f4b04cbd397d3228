"""Rasters by the conventions of CF, GeoZarr, EOPF and GDAL: each read, all written, refused where they differ."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from numpy.typing import NDArray

from geomedsr.errors import GeomedsrError, InputError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec, Source, Voxels
from geomedsr.io import format_of
from geomedsr.io._zarr_crs import authority_code, full_wkt, grid_mapping_name, is_same_crs
from geomedsr.io.zarr_archive import create_sink, levels, members, open_source
from tests.io.raster_support import make

NORTH_UP = [[0.0, 10.0, 499980.0], [-10.0, 0.0, 4600020.0], [0.0, 0.0, 1.0]]
TRANSFORM = (10.0, 0.0, 499980.0, 0.0, -10.0, 4600020.0)
GEOTRANSFORM = "499980.0 10.0 0.0 4600020.0 0.0 -10.0"
WKT = full_wkt("EPSG:32633")
GRID = Grid.of((20, 30), np.array(NORTH_UP), WKT, "m")


def ramp(*shape: int) -> NDArray[Any]:
    return np.arange(1, np.prod(shape) + 1).reshape(shape)


def whole(source: Source) -> Voxels:
    return source.read(Box.whole(source.spec.grid.shape))


def group(path: Path, zarr_format: int = 3, **attributes: Any) -> zarr.Group:
    return zarr.create_group(str(path), zarr_format=zarr_format, attributes=attributes)  # type: ignore[arg-type]


def add(
    parent: zarr.Group, name: str, data: Any, dims: tuple[str, ...] = (), *, fill: Any = None, **attributes: Any
) -> None:
    data = np.asarray(data)
    is_old = parent.metadata.zarr_format == 2
    made = parent.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        dimension_names=None if is_old or not dims else dims,
        attributes={**({"_ARRAY_DIMENSIONS": list(dims)} if is_old else {}), **attributes},
        fill_value=fill if fill is not None or is_old else 0,
    )
    made[...] = data


def add_coordinates(parent: zarr.Group, shift: float = 0.0, dtype: str = "float64") -> None:
    add(parent, "x", (499985 + shift + 10 * np.arange(30)).astype(dtype), ("x",), units="m")
    add(parent, "y", (4600015 - 10 * np.arange(20)).astype(dtype), ("y",), units="m")


def written(path: Path, spec: ImageSpec, voxels: Voxels, **options: str) -> Source:
    sink = create_sink(path, spec, options)
    sink.write(Box.whole(spec.grid.shape), voxels)
    sink.commit()
    return open_source(path)


# Read


@pytest.mark.parametrize(
    "how", ["CF", "coordinates", "coordinates in float32", "group", "array", "EOPF", "GDAL", "projjson", "wkt2"]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_each_convention_tells_the_place(tmp_path: Path, how: str, zarr_format: int) -> None:
    path, dims = tmp_path / "a.zarr", ("y", "x")
    place = {"spatial:transform": list(TRANSFORM), "spatial:dimensions": ["y", "x"]}
    root = group(path, zarr_format, **({"proj:code": "EPSG:32633", **place} if how == "group" else {}))
    more: dict[str, Any] = {
        "array": {"proj:code": "EPSG:32633", **place},
        "wkt2": {"proj:wkt2": WKT, **place},
        "EOPF": {"proj:epsg": 32633, "proj:transform": [*TRANSFORM, 0.0, 0.0, 1.0]},
        "CF": {"grid_mapping": "crs"},
        "GDAL": {"_CRS": {"wkt": WKT}},
        "projjson": {"proj:projjson": rasterio.crs.CRS.from_epsg(32633).to_dict(projjson=True), **place},
    }.get(how, {})
    add(root, "b02", ramp(20, 30).astype("uint16"), dims, **more)
    if how == "CF":
        add(root, "crs", 0, crs_wkt=WKT, GeoTransform=GEOTRANSFORM)
    if how in ("coordinates", "coordinates in float32", "GDAL"):
        add_coordinates(root, dtype="float32" if "float32" in how else "float64")
        add(root, "spatial_ref", 0, spatial_ref=WKT)
    grid = open_source(path).spec.grid
    assert grid.crs == WKT
    assert grid.units == "m"
    np.testing.assert_allclose(grid.matrix, NORTH_UP, atol=0.5 if "float32" in how else 1e-9)
    assert grid.shape == (20, 30)


def test_coordinates_in_degrees_tell_a_place_without_a_crs(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr")
    add(root, "t2m", ramp(4, 8).astype("float32"), ("lat", "lon"))
    add(root, "lat", [51.0, 50.5, 50.0, 49.5], ("lat",), units="degrees_north")
    add(root, "lon", 5 + 0.5 * np.arange(8), ("lon",), units="degrees_east")
    grid = open_source(tmp_path / "a.zarr").spec.grid
    assert (grid.crs, grid.units) == (None, "degree")
    assert grid.world((0, 0)).tolist() == [4.75, 51.25]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_series_keeps_its_times(tmp_path: Path, zarr_format: int) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    times = np.array(["2026-01-01", "2026-02-01", "2026-03-15"], "datetime64[ns]")
    coordinates = {"time": times, "y": 4600015 - 10.0 * np.arange(20), "x": 499985 + 10.0 * np.arange(30)}
    series = xarray.DataArray(ramp(3, 20, 30).astype("float32"), coordinates, ("time", "y", "x"), name="ndvi")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series.rio.write_crs(32633).to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    source = open_source(tmp_path / "a.zarr")
    assert authority_code(source.spec.grid.crs or "") == "EPSG:32633"
    assert source.spec.shape == (3, 20, 30)
    fine = source.spec.upscaled((2, 2))
    written(tmp_path / "b.zarr", fine, whole(source).repeat(2, 1).repeat(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = xarray.open_zarr(tmp_path / "b.zarr", decode_coords="all")["ndvi"]
        assert tuple(again.rio.transform())[:6] == (5.0, 0.0, 499980.0, 0.0, -5.0, 4600020.0)
    np.testing.assert_array_equal(again["time"].values, times)
    np.testing.assert_array_equal(again.values[:, ::2, ::2], series.values)


def test_a_raster_in_degrees_without_a_crs_keeps_its_place(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr")
    add(root, "t2m", ramp(4, 8).astype("float32"), ("lat", "lon"))
    add(root, "lat", [51.0, 50.5, 50.0, 49.5], ("lat",), units="degrees_north")
    add(root, "lon", 5 + 0.5 * np.arange(8), ("lon",), units="degrees_east")
    source = open_source(tmp_path / "a.zarr")
    fine = written(tmp_path / "b.zarr", source.spec.upscaled((2, 2)), whole(source).repeat(2, 1).repeat(2, 2))
    assert fine.spec.grid == source.spec.grid.upscaled((2, 2))
    told = zarr.open_group(str(tmp_path / "b.zarr"), mode="r")
    assert told["lat"][:3].tolist() == [51.125, 50.875, 50.625]  # type: ignore[index]
    assert told["t2m"].metadata.dimension_names == ("lat", "lon")  # type: ignore[union-attr]


def test_an_axis_order_of_x_and_y_is_kept(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr")
    add(root, "a", ramp(30, 20).astype("uint16"), ("x", "y"), grid_mapping="spatial_ref")
    add(root, "spatial_ref", 0, crs_wkt=WKT, GeoTransform=GEOTRANSFORM)
    add_coordinates(root)
    source = open_source(tmp_path / "a.zarr")
    assert source.spec.grid.shape == (30, 20)
    assert source.spec.grid.matrix.tolist() == [[10, 0, 499980], [0, -10, 4600020], [0, 0, 1]]


def test_eopf_numbers_are_reflectances(tmp_path: Path) -> None:
    """As the products of format 2 have it: what the numbers stand for is told in `_eopf_attrs`, and beside it."""
    root = group(tmp_path / "a.zarr", 2)
    data = np.array([[0, 1000, 11000]] * 4, np.uint16)
    told = {"add_offset": -0.1, "scale_factor": 0.0001, "fill_value": 0, "dtype": "<u2"}
    place = {"proj:epsg": 32633, "proj:transform": [*TRANSFORM, 0, 0, 1]}
    for name, more in {"b02": {"_eopf_attrs": told}, "b03": {"scale_factor": 0.0001, "add_offset": -0.1}}.items():
        add(root, f"r10m/{name}", data.repeat(2, 1), ("y", "x"), fill=0, **more, **place)
    source = open_source(tmp_path / "a.zarr")
    assert source.spec.channels == ("b02", "b03")
    np.testing.assert_allclose(whole(source)[:, 0, ::2], [[np.nan, 0, 1]] * 2, atol=1e-7)
    again = written(tmp_path / "b.zarr", source.spec, whole(source))
    np.testing.assert_array_equal(zarr.open_group(str(tmp_path / "b.zarr"), mode="r")["b02"][...], data.repeat(2, 1))
    np.testing.assert_array_equal(whole(again), whole(source))


def test_rasters_on_one_grid_are_the_channels_of_one_image(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr", **{"proj:code": "EPSG:32633", "spatial:transform": list(TRANSFORM)})
    for index, name in enumerate(("b02", "b03", "b8a")):
        add(root, name, ramp(20, 30).astype("uint16") + 1000 * index, ("y", "x"), long_name=f"band {name}")
    assert list(members(tmp_path / "a.zarr")) == [tmp_path / "a.zarr"]
    source = open_source(tmp_path / "a.zarr")
    assert source.spec.channels == ("b02", "b03", "b8a")
    np.testing.assert_array_equal(whole(source)[2], ramp(20, 30) + 2000)
    assert open_source(tmp_path / "a.zarr" / "b03").spec.channels == ("b03",)
    chosen = source.spec.with_channels((2, 0))
    again = written(tmp_path / "b.zarr", chosen, whole(source)[[2, 0]])
    assert again.spec.channels == ("b8a", "b02")
    np.testing.assert_array_equal(whole(again), whole(source)[[2, 0]])
    told = zarr.open_group(str(tmp_path / "b.zarr"), mode="r")
    assert [told[name].attrs["long_name"] for name in ("b02", "b8a")] == ["band b02", "band b8a"]
    single = written(tmp_path / "c.zarr", chosen, whole(source)[[2, 0]], profile="qgis")
    assert single.spec.channels == ("b8a", "b02")


def test_rasters_that_differ_are_images_of_their_own(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr", **{"proj:code": "EPSG:32633", "spatial:transform": list(TRANSFORM)})
    add(root, "b02", ramp(20, 30).astype("uint16"), ("y", "x"))
    add(root, "cloud", ramp(20, 30).astype("uint8"), ("y", "x"))
    assert [path.name for path in members(tmp_path / "a.zarr")] == ["b02", "cloud"]


@pytest.mark.parametrize("how", ["layout", "tile_matrix_set"])
def test_of_several_resolutions_the_finest_is_the_image(tmp_path: Path, how: str) -> None:
    names = ["r20m", "r10m"]
    told = {
        "layout": {"layout": [{"asset": name} for name in names]},
        "tile_matrix_set": {"tile_matrix_set": {"tileMatrices": [{"id": name} for name in names]}},
    }[how]
    root = group(tmp_path / "a.zarr", multiscales=told)
    for name, step, shape in (("r10m", 10.0, (20, 30)), ("r20m", 20.0, (10, 15))):
        place = {"proj:code": "EPSG:32633", "spatial:transform": [step, 0, 499980, 0, -step, 4600020]}
        child = root.create_group(name, attributes=place)
        for band in ("b02", "b03"):
            add(child, band, ramp(*shape).astype("uint16"), ("y", "x"))
    add(root, "other/mask", ramp(20, 30).astype("uint8"), ("y", "x"))
    path = tmp_path / "a.zarr"
    assert list(members(path)) == [path / "r10m", path / "other" / "mask"]
    assert levels(path) == (path / "r10m", path / "r20m")
    assert open_source(path / "r20m").spec.grid.spacing == (20.0, 20.0)


# Refused


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"GeoTransform": "499985.0 10.0 0.0 4600015.0 0.0 -10.0"}, "they contradict each other"),
        ({"GeoTransform": "499980.0 20.0 0.0 4600020.0 0.0 -20.0"}, "they contradict each other"),
        ({"GeoTransform": "here"}, "has no place by the GeoTransform"),
        ({"GeoTransform": "0 0 0 0 0 0"}, "has no place by the GeoTransform"),
        ({"GeoTransform": "nan 10 0 0 0 -10"}, "has no place by the GeoTransform"),
        ({"crs_wkt": "PROJCS[nonsense"}, "has a CRS that is none known here, by the crs_wkt"),
        ({"crs_wkt": full_wkt("EPSG:32632")}, "has the CRS EPSG:32632 by the crs_wkt .* and EPSG:32633 by proj:code"),
    ],
)
def test_conventions_that_contradict_each_other_are_refused(
    tmp_path: Path, change: dict[str, str], sentence: str
) -> None:
    root = group(tmp_path / "a.zarr", **{"proj:code": "EPSG:32633"})
    add(root, "a", ramp(20, 30).astype("uint16"), ("y", "x"), grid_mapping="spatial_ref")
    add(root, "spatial_ref", 0, **{"crs_wkt": WKT, "GeoTransform": GEOTRANSFORM, **change})
    add_coordinates(root)
    with pytest.raises(InputError, match=sentence):
        open_source(tmp_path / "a.zarr")


def test_a_grid_mapping_that_is_not_there_is_refused(tmp_path: Path) -> None:
    add(group(tmp_path / "a.zarr"), "a", ramp(20, 30).astype("uint16"), ("y", "x"), grid_mapping="crs")
    with pytest.raises(InputError, match="names the grid mapping 'crs', and there is none beside it"):
        open_source(tmp_path / "a.zarr")


def test_uneven_coordinates_are_refused(tmp_path: Path) -> None:
    root = group(tmp_path / "a.zarr", **{"proj:code": "EPSG:32633"})
    add(root, "a", ramp(20, 30).astype("uint16"), ("y", "x"))
    add(root, "x", np.arange(30.0) ** 2, ("x",), units="m")
    add(root, "y", np.arange(20.0), ("y",), units="m")
    with pytest.raises(InputError, match="is not evenly spaced"):
        open_source(tmp_path / "a.zarr")


def test_a_note_that_contradicts_the_convention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    written(path, ImageSpec(GRID, ("a",), np.dtype("uint8")), np.ones((1, 20, 30), np.float32))
    data = json.loads((path / "zarr.json").read_text())
    data["attributes"]["geomedsr"]["grid"]["affine"][0][2] += 100
    (path / "zarr.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="lies somewhere else by its attribute 'geomedsr'"):
        open_source(path)


def test_a_volume_has_no_geo_layout(tmp_path: Path) -> None:
    spec = ImageSpec(Grid.plain((4, 5, 6)), ("a",), np.dtype("uint8"))
    with pytest.raises(GeomedsrError, match="The layout geo is for rasters of 2 axes"):
        create_sink(tmp_path / "a.zarr", spec, {"layout": "geo"})


# What others read


@pytest.mark.parametrize("options", [{}, {"zarr_format": "2"}, {"profile": "qgis"}, {"chunks": "8", "shards": "16"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_others_read_place_and_voxels(tmp_path: Path, options: dict[str, str], channels: int) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    pytest.importorskip("odc.geo.xr", reason="odc-geo is not installed")
    names = ("red", "green", "nir")[:channels]
    spec, voxels = ImageSpec(GRID, names, np.dtype("uint16"), 0.0), ramp(channels, 20, 30).astype(np.float32)
    voxels[0, 3] = np.nan
    path = tmp_path / "a.zarr"
    written(path, spec, voxels, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = xarray.open_zarr(path, decode_coords="all")
        image = dataset["image"]
        assert image.rio.crs.to_epsg() == image.odc.crs.epsg == 32633
        assert tuple(image.rio.transform())[:6] == tuple(image.odc.transform)[:6] == TRANSFORM
        assert set(dataset.coords) == {"x", "y", "spatial_ref"}
        np.testing.assert_array_equal(image.values.reshape(voxels.shape), voxels)
        assert dataset["x"].values[:2].tolist() == [499985.0, 499995.0]
    assert channels == 1 or image.attrs["long_name"] == list(names)


@pytest.mark.parametrize("channels", [1, 3])
def test_gdal_reads_the_profile_for_qgis(tmp_path: Path, channels: int) -> None:
    spec = ImageSpec(GRID, tuple("abc"[:channels]), np.dtype("int16"), -9999.0)
    voxels = ramp(channels, 20, 30).astype(np.float32)
    voxels[:, 5] = np.nan
    path = tmp_path / "a.zarr"
    written(path, spec, voxels, profile="qgis")
    with rasterio.open(path) as dataset:
        assert (dataset.count, dataset.shape, dataset.crs.to_epsg()) == (channels, (20, 30), 32633)
        assert tuple(dataset.transform)[:6] == TRANSFORM
        assert dataset.nodata == -9999
        np.testing.assert_array_equal(dataset.read(), np.where(np.isnan(voxels), -9999, voxels))


def test_the_conventions_stand_on_the_array_and_on_its_group(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    written(path, ImageSpec(GRID, ("a",), np.dtype("uint8")), np.ones((1, 20, 30), np.float32))
    root = zarr.open_group(str(path), mode="r")
    for node in (root, root["image"]):
        assert node.attrs["proj:code"] == "EPSG:32633"
        assert node.attrs["spatial:transform"] == list(TRANSFORM)
        assert node.attrs["spatial:shape"] == [20, 30]
        assert node.attrs["spatial:bbox"] == [499980.0, 4599820.0, 500280.0, 4600020.0]
        assert {one["name"] for one in node.attrs["zarr_conventions"]} == {"proj:", "spatial:"}
    assert root["image"].metadata.dimension_names == ("y", "x")
    mapping = root["spatial_ref"].attrs
    assert mapping["grid_mapping_name"] == "transverse_mercator"
    assert [float(value) for value in mapping["GeoTransform"].split()] == [499980, 10, 0, 4600020, 0, -10]


def test_a_rotated_raster_has_a_transform_and_no_coordinates(tmp_path: Path) -> None:
    turned = Grid.of((20, 30), np.array([[3.0, 10.0, 5e5], [-10.0, 3.0, 4e6], [0, 0, 1.0]]), WKT, "m")
    path = tmp_path / "a.zarr"
    source = written(path, ImageSpec(turned, ("a",), np.dtype("uint8")), np.ones((1, 20, 30), np.float32))
    assert source.spec.grid == turned
    assert sorted(child.name for child in path.iterdir() if child.is_dir()) == ["image", "spatial_ref"]


def _name_bands(dataset: Any) -> None:
    dataset.descriptions = ("red", "green", "nir")


def test_a_geotiff_comes_back_from_zarr_as_it_was(tmp_path: Path) -> None:
    voxels = ramp(3, 20, 30).astype("uint16")
    path = make(tmp_path / "a.tif", voxels, _name_bands, nodata=5)
    source = format_of(path).open_source(path)
    middle = written(tmp_path / "a.zarr", source.spec, whole(source))
    assert middle.spec.grid == source.spec.grid
    assert (middle.spec.channels, middle.spec.nodata) == (source.spec.channels, source.spec.nodata)
    np.testing.assert_array_equal(whole(middle), whole(source))
    sink = format_of(path).create_sink(tmp_path / "b.tif", middle.spec)
    sink.write(Box.whole((20, 30)), whole(middle))
    sink.commit()
    with rasterio.open(path) as before, rasterio.open(tmp_path / "b.tif") as after:
        assert (before.crs, before.transform, before.nodata) == (after.crs, after.transform, after.nodata)
        assert before.descriptions == after.descriptions
        np.testing.assert_array_equal(before.read(), after.read())


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("EPSG:32633", "transverse_mercator"),
        ("EPSG:4326", "latitude_longitude"),
        ("EPSG:3035", "lambert_azimuthal_equal_area"),
        ("EPSG:3857", "mercator"),
    ],
)
def test_a_crs_is_told_in_all_its_forms(code: str, name: str) -> None:
    wkt = full_wkt(code)
    assert wkt is not None
    assert authority_code(wkt) == code
    assert grid_mapping_name(wkt) == name
    assert is_same_crs(code, wkt)
    assert not is_same_crs(code, "EPSG:32601")
