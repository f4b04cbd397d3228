"""Zarr arrays in boxes: what their axes mean, what is kept, what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from zarr.storage import LocalStore

from geomedsr.errors import GeomedsrError, GridError, InputError, OutputError, WriteFailedError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec, Scaling, Voxels
from geomedsr.io import format_of, zarr_archive
from geomedsr.io.zarr_archive import ZarrSource, create_sink, members, open_source
from tests.io.raster_support import make

AFFINE = np.array([[10.0, 0.0, 500000.0], [0.0, -10.0, 4600000.0], [0.0, 0.0, 1.0]])


def ramp(*shape: int, dtype: str = "float32") -> NDArray[Any]:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)


def array(path: Path, data: NDArray[Any], **more: Any) -> Path:
    more = {"zarr_format": 3, **more}
    made = zarr.create_array(str(path), shape=data.shape, dtype=data.dtype, **more)
    made[...] = data
    return path


def whole(source: ZarrSource) -> Voxels:
    return source.read(Box.whole(source.spec.grid.shape))


def copied(source: ZarrSource, target: Path, spec: ImageSpec | None = None, **options: str) -> ZarrSource:
    """The image of a source written by a sink (repeated where the spec is finer), opened again."""
    spec = spec or source.spec
    factor = spec.grid.ratio_to(source.spec.grid)
    sink = create_sink(target, spec, options)
    assert sink.spec.chunks is not None
    for box in Box.whole(spec.grid.shape).split(sink.spec.chunks):
        voxels = whole(source)
        for axis, count in enumerate(factor, start=1):
            voxels = voxels.repeat(count, axis)
        sink.write(box, voxels[(slice(None), *box.slices)])
    sink.commit()
    return open_source(target)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["bool", "uint8", ">i2", "uint16", "int32", "uint64", "float16", "float32", ">f8"])
def test_every_real_dtype_survives(tmp_path: Path, zarr_format: int, dtype: str) -> None:
    path = array(tmp_path / "a.zarr", ramp(6, 7, dtype=dtype), zarr_format=zarr_format)
    source = open_source(path)
    again = copied(source, tmp_path / "b.zarr")
    stored = zarr.open_array(str(tmp_path / "b.zarr"), mode="r")
    expected = np.dtype(dtype)
    assert stored.dtype == (expected if zarr_format == 2 else expected.newbyteorder("="))  # format 3 has one order
    assert stored.metadata.zarr_format == zarr_format
    np.testing.assert_array_equal(whole(again), whole(source))
    np.testing.assert_array_equal(stored[...], ramp(6, 7, dtype=dtype))


def test_a_sharded_array_keeps_chunks_and_shards(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr", ramp(3, 70, 90), chunks=(1, 16, 16), shards=(3, 32, 48))
    source = open_source(path)
    assert source.spec.chunks == (32, 48)
    again = copied(source, tmp_path / "b.zarr", source.spec.upscaled((2, 2)))
    stored = zarr.open_array(str(tmp_path / "b.zarr"), mode="r")
    assert (stored.shape, stored.chunks, stored.shards) == ((3, 140, 180), (1, 16, 16), (1, 32, 48))
    np.testing.assert_array_equal(whole(again)[:, ::2, 1::2], whole(source))


def test_reading_a_box_reads_no_more_chunks(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr", ramp(64, 64), chunks=(16, 16))
    (path / "c" / "3" / "3").write_bytes(b"broken")
    source = open_source(path)
    np.testing.assert_array_equal(source.read(Box((0, 10), (16, 40))), ramp(64, 64)[None, :16, 10:40])
    with pytest.raises(InputError, match=r"a\.zarr is broken in \(48, 48\) to \(64, 64\)"):
        source.read(Box((48, 48), (64, 64)))


def test_voxels_are_fresh_and_writable(tmp_path: Path) -> None:
    source = open_source(array(tmp_path / "a.zarr", ramp(8, 8)))
    whole(source)[...] = np.nan
    np.testing.assert_array_equal(whole(source)[0], ramp(8, 8))


def test_a_source_can_be_pickled_and_closed(tmp_path: Path) -> None:
    source = open_source(array(tmp_path / "a.zarr", ramp(8, 8)))
    before = whole(source)
    other = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    source.close()
    np.testing.assert_array_equal(whole(other), before)
    np.testing.assert_array_equal(whole(source), before)
    assert other.spec == source.spec


# What the axes mean


@pytest.mark.parametrize(
    ("shape", "names", "lead", "space"),
    [
        ((8, 9), None, (), (8, 9)),
        ((8, 9, 10), None, (), (8, 9, 10)),
        ((4, 32, 32), None, (4,), (32, 32)),
        ((12, 16, 13), None, (), (12, 16, 13)),
        ((17, 99, 99), None, (), (17, 99, 99)),
        ((1, 8, 9), None, (1,), (8, 9)),
        ((1, 1, 8, 9), None, (1, 1), (8, 9)),
        ((1, 2, 8, 9, 10), None, (1, 2), (8, 9, 10)),
        ((5, 8, 9, 10), None, (5,), (8, 9, 10)),
        ((20, 8, 9), ("band", "y", "x"), (20,), (8, 9)),
        ((3, 80, 90), ("z", "y", "x"), (), (3, 80, 90)),
        ((2, 3, 8, 9), ("time", "c", "y", "x"), (2, 3), (8, 9)),
        ((2, 3, 4, 8, 9), ("t", "channels", "z", "y", "x"), (2, 3), (4, 8, 9)),
        ((4, 32, 32), ("dim_0", "dim_1", "dim_2"), (4,), (32, 32)),
    ],
)
@pytest.mark.parametrize("how", ["dimension_names", "_ARRAY_DIMENSIONS", "axes"])
def test_axes_are_told_by_names_and_else_by_lengths(
    tmp_path: Path, shape: tuple[int, ...], names: tuple[str, ...] | None, lead: tuple[int, ...], space: Any, how: str
) -> None:
    more: dict[str, Any] = {}
    if names is not None and how == "dimension_names":
        more = {"dimension_names": names}
    elif names is not None and how == "axes":
        more = {"attributes": {"axes": [{"name": name} for name in names]}}
    elif names is not None:
        more = {"attributes": {"_ARRAY_DIMENSIONS": list(names)}, "zarr_format": 2, "fill_value": None}
    source = open_source(array(tmp_path / "a.zarr", ramp(*shape), **more))
    assert source.spec.grid == Grid.plain(space)
    assert len(source.spec.channels) == np.prod(lead, dtype=int)
    np.testing.assert_array_equal(whole(source), ramp(*shape).reshape(-1, *space))
    again = copied(source, tmp_path / "b.zarr")
    assert zarr.open_array(str(tmp_path / "b.zarr"), mode="r").shape == shape
    np.testing.assert_array_equal(whole(again), whole(source))


@pytest.mark.parametrize(
    ("shape", "names", "sentence"),
    [
        ((8, 9, 3), ("y", "x", "c"), "channels come first"),
        ((8,), None, "2 or 3 of space"),
        ((3, 8), ("band", "x"), "2 or 3 of space"),
        ((2, 3, 4, 5, 6), None, "2 or 3 of space"),
    ],
)
def test_axes_that_are_no_image_are_refused(tmp_path: Path, shape: Any, names: Any, sentence: str) -> None:
    path = array(tmp_path / "a.zarr", ramp(*shape), dimension_names=names)
    with pytest.raises(InputError, match=sentence):
        open_source(path)


def test_a_subset_of_channels_is_written(tmp_path: Path) -> None:
    source = open_source(array(tmp_path / "a.zarr", ramp(4, 20, 20)))
    sink = create_sink(tmp_path / "b.zarr", source.spec.with_channels((2, 0)))
    sink.write(Box.whole((20, 20)), whole(source)[[2, 0]])
    sink.commit()
    again = open_source(tmp_path / "b.zarr")
    assert again.spec.channels == ("channel 3", "channel 1")
    np.testing.assert_array_equal(whole(again), whole(source)[[2, 0]])


# Geometry and attributes


@pytest.mark.parametrize("zarr_format", ["2", "3"])
@pytest.mark.parametrize("nodata", [None, float("nan"), -9999.0])
def test_a_spec_of_any_format_round_trips(tmp_path: Path, zarr_format: str, nodata: float | None) -> None:
    grid = Grid.of((20, 30), AFFINE, "EPSG:32633", "m")
    spec = ImageSpec(grid, ("red", "nir"), np.dtype("float32"), nodata, None, {"geotiff": object()})
    voxels = ramp(2, 20, 30)
    voxels[0, :5] = np.nan
    sink = create_sink(tmp_path / "a.zarr", spec, {"zarr_format": zarr_format})
    sink.write(Box.whole(grid.shape), voxels)
    sink.commit()
    again = open_source(tmp_path / "a.zarr")
    assert (again.spec.grid, again.spec.channels, again.spec.dtype) == (grid, spec.channels, spec.dtype)
    np.testing.assert_equal(again.spec.nodata, nodata)
    np.testing.assert_array_equal(whole(again), voxels)
    finer = copied(again, tmp_path / "b.zarr", again.spec.upscaled((2, 3)))
    assert finer.spec.grid == grid.upscaled((2, 3))


def test_attributes_survive_but_for_those_of_the_old_grid(tmp_path: Path) -> None:
    old = {"GeoTransform": "1 2 3", "transform": [1, 2], "coordinates": "lon lat"}
    kept = {"long_name": "reflectance", "nested": {"list": [1, None, "text"]}, "flag_meanings": "a b"}
    source = open_source(array(tmp_path / "a.zarr", ramp(8, 9), attributes={**kept, **old}))
    same = copied(source, tmp_path / "b.zarr")
    assert {**kept, **old}.items() <= json.loads((tmp_path / "b.zarr/zarr.json").read_text())["attributes"].items()
    copied(same, tmp_path / "c.zarr", same.spec.upscaled((2, 2)))
    finer = json.loads((tmp_path / "c.zarr/zarr.json").read_text())["attributes"]
    assert kept.items() <= finer.items()
    assert not old.keys() & finer.keys()


def test_a_note_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    source = open_source(array(tmp_path / "a.zarr", ramp(8, 9)))
    copied(source, tmp_path / "b.zarr")
    attributes = dict(zarr.open_array(str(tmp_path / "b.zarr"), mode="r").attrs)
    cut = array(tmp_path / "cut.zarr", ramp(7, 9), attributes=attributes)
    with pytest.raises(InputError, match="the array was changed since"):
        open_source(cut)
    broken = array(tmp_path / "broken.zarr", ramp(7, 9), attributes={"geomedsr": {"grid": {"shape": [7, 9]}}})
    with pytest.raises(InputError, match="is broken"):
        open_source(broken)


# Numbers


def test_scale_and_offset_are_applied_and_given_back(tmp_path: Path) -> None:
    data = np.array([[0, 1000, 20000], [0, 5000, 10000]], dtype=np.uint16).repeat(4, 0).repeat(4, 1)
    attributes = {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0}
    source = open_source(array(tmp_path / "a.zarr", data, attributes=attributes))
    assert source.spec.nodata == 0
    voxels = whole(source)[0, ::4, ::4]
    np.testing.assert_allclose(voxels, [[np.nan, 0.0, 1.9], [np.nan, 0.4, 0.9]], rtol=1e-6, atol=1e-8)
    copied(source, tmp_path / "b.zarr")
    stored = zarr.open_array(str(tmp_path / "b.zarr"), mode="r")
    np.testing.assert_array_equal(stored[...], data)
    assert stored.attrs["scale_factor"] == 0.0001
    physical = copied(source, tmp_path / "c.zarr", replace(source.spec, dtype=np.dtype("float32")))
    np.testing.assert_array_equal(whole(physical), whole(source))
    assert "scale_factor" not in zarr.open_array(str(tmp_path / "c.zarr"), mode="r").attrs


def test_the_scaling_of_another_format_is_told_as_cf_has_it(tmp_path: Path) -> None:
    spec = ImageSpec(Grid.plain((4, 5)), ("a", "b"), np.dtype("uint16"), 0.0, scaling=(Scaling(1e-4, -0.1),) * 2)
    sink = create_sink(tmp_path / "a.zarr", spec)
    sink.write(Box.whole((4, 5)), np.full((2, 4, 5), 0.3, np.float32))
    sink.commit()
    stored = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert (stored.attrs["scale_factor"], stored.attrs["add_offset"], stored.attrs["_FillValue"]) == (1e-4, -0.1, 0)
    assert np.unique(stored[...]).tolist() == [4000]


def test_format_2_without_nodata_has_no_fill_value_that_others_take_for_one(tmp_path: Path) -> None:
    spec = ImageSpec(Grid.plain((4, 5)), ("a",), np.dtype("uint16"))
    sink = create_sink(tmp_path / "a.zarr", spec, {"zarr_format": "2"})
    sink.write(Box.whole((4, 5)), np.zeros((1, 4, 5), np.float32))
    sink.commit()
    assert json.loads((tmp_path / "a.zarr/.zarray").read_text())["fill_value"] is None
    assert (tmp_path / "a.zarr/0.0").exists() or (tmp_path / "a.zarr/0/0").exists()
    np.testing.assert_array_equal(whole(open_source(tmp_path / "a.zarr")), np.zeros((1, 4, 5)))


@pytest.mark.parametrize("bad", [{"scale_factor": 0}, {"scale_factor": "x"}, {"add_offset": float("inf")}])
def test_a_scale_that_gives_no_voxels_is_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="scale"):
        open_source(array(tmp_path / "a.zarr", ramp(8, 9), attributes=bad))


@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        ("float32", {"fill_value": np.nan}),
        ("float32", {"fill_value": 0}),
        ("int16", {"fill_value": -1}),
        ("int16", {"fill_value": -1, "attributes": {"_FillValue": -1}}),
        ("int16", {"fill_value": -1, "attributes": {"nodata": -1}}),
        ("int16", {"fill_value": -1, "zarr_format": 2}),
        ("int16", {"fill_value": -1, "zarr_format": 2, "attributes": {"_ARRAY_DIMENSIONS": ["y", "x"]}}),
        ("float64", {"fill_value": -1, "attributes": {"_FillValue": [-1.0]}}),
        (
            "float64",
            {"fill_value": -1, "attributes": {"_FillValue": base64.b64encode(struct.pack("<d", -1)).decode()}},
        ),
    ],
)
def test_missing_chunks_are_invalid_whatever_the_fill_value(tmp_path: Path, dtype: str, more: dict[str, Any]) -> None:
    path = array(tmp_path / "a.zarr", ramp(16, 16, dtype=dtype), chunks=(8, 8), **more)
    chunk = path / "c" / "1" / "1" if (path / "c").exists() else path / "1.1"
    chunk.unlink()
    source = open_source(path)
    assert np.isnan(source.read(Box((8, 8), (16, 16)))).all()
    assert np.isnan(whole(source)).sum() == 64
    assert not np.isnan(source.read(Box((0, 0), (8, 8)))).any()
    assert source.spec.has_holes
    told = f"1 of the chunks of {path} were never written; their voxels are taken as invalid "
    told += f"(docs/zarr.md says how to have them as {more['fill_value']:g})."
    says_so = np.isnan(source.spec.nodata or 0) or source.spec.nodata == -1 or more["fill_value"] is np.nan
    assert source.spec.extra.get("notes") == (None if says_so else (told,))


@pytest.mark.parametrize("place", ["start", "end"])
def test_a_chunk_that_a_shard_does_not_have_is_invalid(tmp_path: Path, place: str) -> None:
    data = ramp(32, 32, dtype="uint16") + 1
    data[8:16, 16:24] = 0
    shards = zarr.codecs.ShardingCodec(chunk_shape=(8, 8), index_location=place)  # type: ignore[arg-type]
    path = tmp_path / "a.zarr"
    made = zarr.create(shape=(32, 32), chunks=(16, 32), dtype="uint16", store=str(path), codecs=[shards], fill_value=0)
    made[...] = data
    source = open_source(path)
    hole = np.zeros((32, 32), bool)
    hole[8:16, 16:24] = True
    np.testing.assert_array_equal(np.isnan(whole(source)[0]), hole)
    np.testing.assert_array_equal(np.isnan(source.read(Box((4, 20), (20, 32)))[0]), hole[4:20, 20:])
    assert "1 of the chunks" in str(source.spec.extra["notes"])
    again = copied(source, tmp_path / "b.zarr")
    assert again.spec.nodata == 65535
    np.testing.assert_array_equal(whole(again), whole(source))


@pytest.mark.parametrize(
    ("dtype", "nodata", "code"),
    [("uint8", -9999.0, 255), ("int16", float("nan"), -32768), ("uint16", 65535.0, 65535), ("float16", -1e38, np.nan)],
)
def test_invalid_voxels_stay_apart_in_another_dtype(tmp_path: Path, dtype: str, nodata: float, code: float) -> None:
    spec = ImageSpec(Grid.plain((4, 5)), ("a",), np.dtype(dtype), nodata)
    voxels = np.full((1, 4, 5), 0 if np.isnan(code) else code, np.float32)
    voxels[0, 0] = np.nan
    sink = create_sink(tmp_path / "a.zarr", spec)
    sink.write(Box.whole((4, 5)), voxels)
    sink.commit()
    again = open_source(tmp_path / "a.zarr")
    np.testing.assert_equal(again.spec.nodata, code)
    np.testing.assert_array_equal(np.isnan(whole(again)), np.isnan(voxels))


@pytest.mark.parametrize("how", ["mask", "alpha", "nodata of one band", "NaN", "none"])
def test_what_a_raster_hides_stays_hidden(tmp_path: Path, how: str) -> None:
    voxels = np.arange(120).reshape(2, 6, 10).astype("float32" if how == "NaN" else "uint8") + 136
    hole = np.zeros((6, 10), bool)
    hole[2:4, 3:7] = how != "none"

    def dress(dataset: Any) -> None:
        if how == "mask":
            dataset.write_mask(~hole)
        if how == "alpha":
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]

    if how == "alpha":
        voxels = np.concatenate([voxels, np.where(hole, 0, 255).astype("uint8")[None]])
    if how == "NaN":
        voxels[:, hole] = np.nan
    path = make(tmp_path / "a.tif", voxels, dress, photometric="MINISBLACK")
    if how == "nodata of one band":
        voxels[1, hole] = 7
        path = make(tmp_path / "a.tif", voxels)
        side = "<PAMDataset><PAMRasterBand band='2'><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
        (tmp_path / "a.tif.aux.xml").write_text(side)
    source = format_of(path).open_source(path)
    before = source.read(Box.whole((6, 10)))
    assert np.isnan(before[1]).sum() == hole.sum()
    sink = create_sink(tmp_path / "a.zarr", replace(source.spec, dtype=np.dtype("uint8")))
    sink.write(Box.whole((6, 10)), before)
    sink.commit()
    after = whole(open_source(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(np.isnan(after), np.isnan(before))
    moved = 255 if how == "none" else 254
    np.testing.assert_array_equal(after, np.where(np.isnan(before), np.nan, np.minimum(before, moved)))


# Storage


@pytest.mark.parametrize(
    ("options", "shape", "chunks", "shards", "codec"),
    [
        ({}, (600, 40), (512, 40), None, "blosc"),
        ({}, (40, 80, 90), (40, 64, 64), None, "blosc"),
        ({"chunks": "16"}, (40, 80, 90), (16, 16, 16), None, "blosc"),
        ({"chunks": "16x8", "shards": "32,32"}, (40, 80), (16, 8), (32, 32), "blosc"),
        ({"COMPRESSOR": "zstd"}, (40, 80), (40, 80), None, "zstd"),
        ({"compressor": "GZIP"}, (40, 80), (40, 80), None, "gzip"),
        ({"compressor": "none", "zarr_format": "2"}, (40, 80), (40, 80), None, None),
        ({"compressor": "gzip", "zarr_format": "2"}, (40, 80), (40, 80), None, "gzip"),
        ({"zarr_format": "2"}, (40, 80), (40, 80), None, "blosc"),
    ],
)
def test_options_say_how_it_is_stored(
    tmp_path: Path, options: dict[str, str], shape: Any, chunks: Any, shards: Any, codec: str | None
) -> None:
    spec = ImageSpec(Grid.plain(shape), ("a",), np.dtype("uint32"))
    sink = create_sink(tmp_path / "a.zarr", spec, options)
    assert sink.spec.chunks == (shards or chunks)
    sink.write(Box.whole(shape), ramp(1, *shape))
    sink.commit()
    made = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert (made.chunks, made.shards) == (chunks, shards)
    described = str(list(made.compressors)).lower()
    assert (codec or "[]") in described
    if codec == "blosc":
        assert "lz4" in described
        assert "bitshuffle" in described or "shuffle=2" in described
    np.testing.assert_array_equal(whole(open_source(tmp_path / "a.zarr")), ramp(1, *shape))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"chunk": "16"}, "zarr has no option 'chunk'; it has chunks, compressor, layout"),
        ({"chunks": "big"}, "takes numbers of voxels"),
        ({"chunks": "0,4"}, "takes numbers of voxels"),
        ({"chunks": "4,4,4"}, "the image has 2 axes"),
        ({"chunks": "8", "shards": "12"}, "whole multiples of the chunks"),
        ({"shards": "1024", "zarr_format": "2"}, "has no shards"),
        ({"zarr_format": "1"}, "takes one of 2, 3"),
        ({"compressor": "pickle"}, "takes one of blosc"),
        ({"chunks": "99999"}, "more than 1.1 GB"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    spec = ImageSpec(Grid.plain((40, 80)), ("a",), np.dtype("uint16"))
    with pytest.raises(GeomedsrError, match=sentence):
        create_sink(tmp_path / "a.zarr", spec, options)
    assert list(tmp_path.iterdir()) == []


def test_a_block_too_large_for_memory_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(4000, 4000), chunks=(3000, 3000), dtype="uint8")
    source = open_source(path)
    assert source.spec.chunks == (3000, 3000)
    sink = create_sink(tmp_path / "b.zarr", source.spec)
    assert sink.spec.chunks == (512, 512)
    sink.abort()


def test_format_2_drops_the_shards_of_its_source(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr", ramp(64, 64), chunks=(16, 16), shards=(32, 32))
    again = copied(open_source(path), tmp_path / "b.zarr", zarr_format="2")
    assert again.spec.chunks == (16, 16)


# Stores with many arrays


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "scene.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    for name, shape in {"b03": (20, 20), "b02": (20, 20), "x": (20,), "x_bnds": (20, 2), "spatial_ref": ()}.items():
        root.create_array(f"r10m/{name}", shape=shape, dtype="float32")[...] = 1.0
    root.create_array("r10m/quality", shape=(20, 20), dtype="complex64")
    root.create_array("mask", shape=(5, 20, 20), dtype="uint8")
    return path


def test_members_are_the_arrays_that_look_like_images(store: Path) -> None:
    found = [str(path.relative_to(store)) for path in members(store)]
    assert found == ["mask", "r10m/b02", "r10m/b03"]
    assert list(members(store / "r10m")) == [store / "r10m" / "b02", store / "r10m" / "b03"]
    assert list(members(store / "r10m" / "b02")) == [store / "r10m" / "b02"]
    assert format_of(store / "r10m" / "b02") is zarr_archive
    assert open_source(store / "r10m" / "b02").spec.channels == ("b02",)


def test_a_group_opens_where_it_has_one_image(store: Path) -> None:
    with pytest.raises(InputError, match=r"holds 3 images; name one of .*mask"):
        open_source(store)
    single = zarr.open_group(str(store.parent / "one.zarr"), mode="w", zarr_format=2)
    with pytest.raises(InputError, match="holds 0 images"):
        open_source(store.parent / "one.zarr")
    single.create_array("a", shape=(8, 8), dtype="uint8")
    assert open_source(store.parent / "one.zarr").spec.grid.shape == (8, 8)


def test_an_array_is_written_into_a_store(store: Path) -> None:
    source = open_source(store / "r10m" / "b02")
    again = copied(source, store / "r10m" / "b02_fine", source.spec.upscaled((2, 2)))
    assert again.spec.grid.shape == (40, 40)
    assert "r10m/b02_fine" in zarr.open_group(str(store), mode="r")


def test_links_are_not_followed(store: Path, tmp_path: Path) -> None:
    array(tmp_path / "outside.zarr", ramp(20, 20))
    (store / "link").symlink_to(tmp_path / "outside.zarr")
    assert store / "link" not in list(members(store))


def test_only_a_store_is_replaced(tmp_path: Path, store: Path) -> None:
    spec = ImageSpec(Grid.plain((4, 5)), ("a",), np.dtype("uint8"))
    precious = tmp_path / "notes.zarr"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no zarr store; it is not replaced"):
        create_sink(precious, spec)
    sink = create_sink(store, spec)
    sink.write(Box.whole((4, 5)), ramp(1, 4, 5))
    sink.commit()
    assert [path.name for path in members(store)] == ["scene.zarr"]


# What is refused


@pytest.mark.parametrize(
    ("data", "more"),
    [
        (np.zeros((4, 4), "complex64"), {}),
        (np.zeros((4, 4), "datetime64[s]"), {"zarr_format": 2}),
        (np.zeros((4, 4), "S5"), {"zarr_format": 2}),
        (np.zeros((4, 4), [("r", "u1"), ("g", "u1")]), {"zarr_format": 2}),
    ],
)
def test_other_types_are_refused(tmp_path: Path, data: NDArray[Any], more: dict[str, Any]) -> None:
    path = array(tmp_path / "a.zarr", data, **more)
    with pytest.raises(InputError, match="only whole and real numbers are images"):
        open_source(path)


def edited(path: Path, name: str, **changes: Any) -> Path:
    data = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps({**data, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}, "of the type"),
        ({"filters": [{"id": "pickle", "protocol": 5}]}, "the codec pickle, which is not decoded"),
        ({"compressor": {"id": "msgpack2"}}, "the codec msgpack2"),
        ({"shape": [0, 8]}, "has no voxels"),
        ({"chunks": [8]}, "chunks"),
        ({"chunks": [0, 8]}, "chunks"),
        ({"chunks": [1 << 40, 1 << 40]}, "more than the 1.1 GB that may be read at once"),
        ({"shape": [8.5, 8]}, "metadata of .* is broken"),
        ({"shape": "8"}, "metadata of .* is broken"),
        ({"dtype": None}, "of the type"),
        ({"filters": 7}, "metadata of .* is broken"),
    ],
)
def test_format_2_that_lies_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = array(tmp_path / "a.zarr", ramp(8, 8), zarr_format=2)
    with pytest.raises(InputError, match=sentence):
        open_source(edited(path, ".zarray", **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_type": "string"}, "of the type string"),
        ({"data_type": {"name": "struct"}}, "of the type"),
        ({"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, "the codec pickle"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [4, 4]}}]}, None),
        ({"codecs": ["vlen-utf8"]}, "the codec vlen-utf8"),
        ({"codecs": None}, "is broken"),
        ({"node_type": None}, None),
        ({"chunk_grid": {"name": "rectilinear", "configuration": {}}}, "is broken"),
    ],
)
def test_format_3_that_lies_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str | None) -> None:
    path = array(tmp_path / "a.zarr", ramp(8, 8))
    with pytest.raises(InputError, match=sentence):
        whole(open_source(edited(path, "zarr.json", **changes)))


def test_a_codec_inside_a_shard_is_seen(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr", ramp(8, 8), chunks=(4, 4), shards=(8, 8))
    data = json.loads((path / "zarr.json").read_text())
    data["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.json2"})
    (path / "zarr.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="the codec json2"):
        open_source(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100000, "\xff"])
def test_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is broken"):
        open_source(path)


BLOSC = zarr.codecs.BloscCodec(cname="lz4")
BLOSC_2 = numcodecs.Blosc(cname="lz4")


@pytest.mark.parametrize("length", [0, 10, 40, 200, 270])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"shards": (16, 16)},
        {"compressors": BLOSC},
        {"shards": (16, 16), "compressors": BLOSC},
        {"zarr_format": 2},
        {"zarr_format": 2, "compressors": BLOSC_2},
        {"compressors": None},
    ],
)
def test_a_truncated_object_is_refused(tmp_path: Path, length: int, noisy: bool, more: dict[str, Any]) -> None:
    """Noise is what blosc holds as it is, and would copy from beyond the end of what there is."""
    data = np.random.default_rng(0).integers(0, 2**32, (16, 16), "uint32") if noisy else ramp(16, 16)
    path = array(tmp_path / "a.zarr", data, chunks=(8, 8), **more)
    objects = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "zarr"))]
    whole_object = objects[0].read_bytes()
    objects[0].write_bytes(whole_object[: min(length, len(whole_object) - 1)])
    with pytest.raises(InputError, match="is broken in"):
        whole(open_source(path))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blosc_header_that_lies_is_refused(tmp_path: Path, zarr_format: int) -> None:
    noise = np.random.default_rng(0).integers(0, 2**32, (16, 16), "uint32")
    compressors = BLOSC if zarr_format == 3 else BLOSC_2
    path = array(tmp_path / "a.zarr", noise, chunks=(16, 16), compressors=compressors, zarr_format=zarr_format)
    chunk = path / "c" / "0" / "0" if zarr_format == 3 else path / "0.0"
    data = bytearray(chunk.read_bytes())
    data[4:8] = (1 << 20).to_bytes(4, "little")
    chunk.write_bytes(data)
    with pytest.raises(InputError, match="is broken in"):
        whole(open_source(path))


def test_a_source_and_a_sink_refuse_a_box_outside(tmp_path: Path) -> None:
    source = open_source(array(tmp_path / "a.zarr", ramp(8, 8)))
    sink = create_sink(tmp_path / "b.zarr", source.spec)
    for box in (Box((0, 0), (9, 8)), Box((-1, 0), (4, 4)), Box((0,), (4,))):
        with pytest.raises(GridError, match="is not inside"):
            source.read(box)
        with pytest.raises(GridError, match="is not inside"):
            sink.write(box, np.zeros((1, *box.shape), np.float32))
    sink.abort()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ImageSpec(Grid.plain((8, 8)), ("a",), np.dtype("float32"))
    sink = create_sink(tmp_path / "a.zarr", spec)

    def full(*_arguments: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(type(sink._output._arrays[0]), "__setitem__", full)
    with pytest.raises(WriteFailedError, match="The disk is full"):
        sink.write(Box.whole((8, 8)), ramp(1, 8, 8))
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_waits_for_the_writes_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ImageSpec(Grid.plain((64, 64)), ("a",), np.dtype("float32"))
    sink = create_sink(tmp_path / "a.zarr", spec, {"chunks": "8,8"})
    late, plain = [], LocalStore.set

    async def slow(self: LocalStore, key: str, value: Any) -> None:
        if key == "c/0/0":
            raise OSError(28, os.strerror(28))
        await asyncio.sleep(0.1)
        await plain(self, key, value)
        late.append(key)

    monkeypatch.setattr(LocalStore, "set", slow)
    with pytest.raises(WriteFailedError, match="The disk is full"):
        sink.write(Box.whole((64, 64)), ramp(1, 64, 64))
    sink.abort()
    assert list(tmp_path.iterdir()) == []
    count = len(late)
    time.sleep(0.3)
    assert len(late) == count
    assert list(tmp_path.iterdir()) == []


def test_other_dtypes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not complex64"):
        create_sink(tmp_path / "a.zarr", ImageSpec(Grid.plain((8, 8)), ("a",), np.dtype("complex64")))


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("S2C_MSIL2A_T32TQM_geozarr_trim.zarr", 3), ("mni152_trim.ome.zarr", 1)])
def test_real_stores_open(name: str, count: int) -> None:
    data = os.environ.get("GEOMEDSR_DATA")
    if data is None or not (Path(data) / "zarr" / name).exists():
        pytest.skip("GEOMEDSR_DATA does not point to the real images")
    found = list(members(Path(data) / "zarr" / name))
    assert len(found) == 1
    source = open_source(found[0])
    assert len(source.spec.channels) == count
    assert np.isfinite(whole(source)).any()
