"""NIfTI: what goes in comes out, voxels and header, whatever the type, the byte order and the number of axes."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nifti_files import CODES, read_whole, unpacked, upscaled_copy, write_nifti, write_whole
from numpy.typing import NDArray

from geomedsr.errors import GridError, OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Sink, Source
from geomedsr.io import nifti
from geomedsr.io.nifti import create_sink, members, open_source

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([*((name, "u1") for name in "RGBA")])
SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbers(dtype: str, shape: tuple[int, ...] = (5, 4, 3), seed: int = 0) -> NDArray[Any]:
    """Stored numbers that float32 holds exactly, the extremes of small integers among them."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("f"):
        values = rng.normal(size=shape).astype(np.float32)
        values.flat[:3] = np.nan, np.inf, -0.0
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(1 << 24)), min(limits.max, 1 << 24)
    values = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    values.flat[:2] = low, high
    return values


def colours(dtype: np.dtype[Any], shape: tuple[int, ...] = (5, 4, 3)) -> NDArray[Any]:
    bytes_ = np.random.default_rng(1).integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    return bytes_.view(dtype)[..., 0]


def same_but_signed(before: bytes, after: bytes, version: int = 1) -> bool:
    """Whether two files are equal, bit for bit, the description aside."""
    at = {1: 148, 2: 240}[version]
    return before[:at] == after[:at] and before[at + 80 :] == after[at + 80 :]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path: Path, dtype: str, order: str) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(dtype), order=order)
    voxels = read_whole(path)
    assert voxels.dtype == np.float32
    assert np.array_equal(voxels[0], numbers(dtype).astype(np.float32), equal_nan=True)
    out = write_whole(tmp_path / "b.nii", open_source(path).spec, voxels)
    assert same_but_signed(path.read_bytes(), out.read_bytes())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_comes_back_bit_for_bit(tmp_path: Path, suffix: str, version: int) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", numbers("i2"), version=version)
    out = write_whole(tmp_path / f"b{suffix}", open_source(path).spec, read_whole(path))
    assert same_but_signed(unpacked(path), unpacked(out), version)
    if suffix.startswith(".hdr"):
        images = [unpacked(p.with_name(p.name.replace(".hdr", ".img"))) for p in (path, out)]
        assert images[0] == images[1]
    assert np.array_equal(nib.load(out).get_fdata(), numbers("i2"))


@many
@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2"]),
    slope=st.floats(2**-10, 1024) | st.floats(-1024, -(2**-10)),
    offset=st.floats(-100, 100),
    order=st.sampled_from("<>"),
)
def test_scaled_integers_come_back_bit_for_bit(
    tmp_path: Path, dtype: str, slope: float, offset: float, order: str
) -> None:
    def scaled(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = slope, slope * offset

    path = write_nifti(tmp_path / "a.nii", numbers(dtype), order=order, edit=scaled)
    voxels = read_whole(path)
    # nibabel scales in float64: what differs is one rounding to float32.
    assert np.allclose(voxels[0], nib.load(path).get_fdata(), rtol=1e-6, atol=1e-6 * abs(slope))
    out = write_whole(tmp_path / "b.nii", open_source(path).spec, voxels)
    assert same_but_signed(path.read_bytes(), out.read_bytes())


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (np.nan, 5), (np.inf, 5), (1, 0)])
def test_a_slope_that_scales_nothing_stays_as_it_is(tmp_path: Path, slope: float, inter: float) -> None:
    def edit(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = slope, inter

    path = write_nifti(tmp_path / "a.nii", numbers("i2"), edit=edit)
    assert np.array_equal(read_whole(path)[0], numbers("i2"))
    out = write_whole(tmp_path / "b.nii", open_source(path).spec, read_whole(path))
    assert same_but_signed(path.read_bytes(), out.read_bytes())


def test_a_scaled_float_is_written_as_it_is(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers("f4"), edit=lambda h: h.__setitem__("scl_slope", 3))
    voxels = read_whole(path)
    out = write_whole(tmp_path / "b.nii", open_source(path).spec, voxels)
    assert float(nib.load(out).dataobj.slope) == 1
    assert np.array_equal(read_whole(out), voxels, equal_nan=True)


def test_integers_round_half_to_even_and_saturate(tmp_path: Path) -> None:
    spec = open_source(write_nifti(tmp_path / "a.nii", np.zeros((8, 1, 1), "i2"))).spec
    voxels = np.array([0.5, 1.5, -2.5, 1e6, -1e6, np.inf, -np.inf, np.nan]).reshape(1, 8, 1, 1)
    out = write_whole(tmp_path / "b.nii", spec, voxels)
    assert read_whole(out).ravel().tolist() == [0, 2, -2, 32767, -32768, 32767, -32768, 0]


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_wide_integers_saturate(tmp_path: Path, dtype: str) -> None:
    spec = open_source(write_nifti(tmp_path / "a.nii", np.zeros((4, 1, 1), dtype))).spec
    out = write_whole(tmp_path / "b.nii", spec, np.array([1e30, -1e30, np.inf, 7]).reshape(1, 4, 1, 1))
    limits = np.iinfo(dtype)
    assert np.asarray(nib.load(out).dataobj).ravel().tolist() == [limits.max, limits.min, limits.max, 7]


def test_an_invalid_voxel_becomes_the_physical_zero(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = 2, -1024

    spec = open_source(write_nifti(tmp_path / "a.nii", np.zeros((2, 1, 1), "i2"), edit=edit)).spec
    out = write_whole(tmp_path / "b.nii", spec, np.array([np.nan, 100]).reshape(1, 2, 1, 1))
    assert np.asarray(nib.load(out).dataobj.get_unscaled()).ravel().tolist() == [512, 562]


@pytest.mark.parametrize(("dtype", "slope"), [("f4", 1), ("i2", 0.5), ("u1", 0.5)])
def test_another_integer_keeps_the_scaling_and_a_float_needs_none(tmp_path: Path, dtype: str, slope: float) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers("i4"), order=">", edit=lambda h: h.__setitem__("scl_slope", 0.5))
    source = open_source(path)
    spec = replace(source.spec, dtype=np.dtype(dtype))
    out = nib.load(write_whole(tmp_path / "b.nii", spec, read_whole(path)))
    assert out.get_data_dtype() == np.dtype(f">{dtype}")
    assert (float(out.dataobj.slope), float(out.dataobj.inter)) == (slope, 0)
    stored = np.asarray(out.dataobj.get_unscaled())[1, 1, 1]
    assert float(stored) == float(np.clip(numbers("i4")[1, 1, 1] / 2 / slope, *limits(dtype)))


def limits(dtype: str) -> tuple[float, float]:
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype != "f4" else (-np.inf, np.inf)


def test_a_dtype_that_nifti_does_not_have_is_refused(tmp_path: Path) -> None:
    spec = replace(open_source(write_nifti(tmp_path / "a.nii", numbers("i2"))).spec, dtype=np.dtype("f2"))
    with pytest.raises(OutputError, match="cannot store float16; it can store float32, float64, int16"):
        create_sink(tmp_path / "b.nii", spec)


@pytest.mark.parametrize("dtype", [RGB, RGBA])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2)])
def test_colours_are_channels_and_come_back(tmp_path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    stored = colours(dtype, shape)
    path = write_nifti(tmp_path / "a.nii", stored)
    source = open_source(path)
    frames = shape[3] if len(shape) > 3 else 1
    assert len(source.spec.channels) == frames * dtype.itemsize
    voxels = read_whole(path)
    assert np.array_equal(voxels[1], stored["G"].reshape(*shape[:3], *[1] * (3 - len(shape)), frames)[..., 0])
    out = write_whole(tmp_path / "b.nii", source.spec, voxels)
    assert same_but_signed(path.read_bytes(), out.read_bytes())


def test_one_colour_is_written_as_plain_bytes(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", colours(RGB))
    spec = open_source(path).spec.with_channels((1,))
    assert spec.channels == ("green",)
    out = nib.load(write_whole(tmp_path / "b.nii", spec, read_whole(path)[1:2]))
    assert out.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(out.dataobj), colours(RGB)["G"])


def test_frames_are_channels_and_keep_their_time(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header["pixdim"][4], header["toffset"] = 2.5, 0.125

    stored = numbers("i2", (4, 3, 2, 5))
    path = write_nifti(tmp_path / "a.nii.gz", stored, edit=edit)
    assert open_source(path).spec.channels == tuple(f"frame {n}" for n in range(1, 6))
    out = nib.load(upscaled_copy(path, tmp_path / "b.nii.gz", (2, 1, 3)))
    assert out.shape == (8, 3, 6, 5)
    assert out.header.get_zooms()[3] == 2.5
    assert float(out.header["toffset"]) == 0.125
    assert np.array_equal(np.asarray(out.dataobj)[::2, :, ::3], stored)


def test_some_frames_can_be_written_alone(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers("i2", (4, 3, 2, 5)))
    out = nib.load(
        write_whole(tmp_path / "b.nii", open_source(path).spec.with_channels((3, 1)), read_whole(path)[[3, 1]])
    )
    assert np.array_equal(np.asarray(out.dataobj), numbers("i2", (4, 3, 2, 5))[..., [3, 1]])


def test_the_components_of_a_vector_are_channels(tmp_path: Path) -> None:
    stored = numbers("f4", (4, 3, 2, 1, 3))
    path = write_nifti(tmp_path / "a.nii", stored, edit=lambda h: h.__setitem__("intent_code", 1007))
    out = nib.load(upscaled_copy(path, tmp_path / "b.nii", (1, 1, 2)))
    assert out.shape == (4, 3, 4, 1, 3)
    assert int(out.header["intent_code"]) == 1007
    assert np.array_equal(np.asarray(out.dataobj)[:, :, 1::2], stored, equal_nan=True)


def test_a_flat_image_stays_flat(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers("u1", (5, 4)), edit=lambda h: h["pixdim"].__setitem__(3, 0))
    assert open_source(path).spec.grid.shape == (5, 4, 1)
    out = nib.load(upscaled_copy(path, tmp_path / "b.nii", (2, 3, 1)))
    assert out.shape == (10, 12)
    assert int(out.header["dim"][0]) == 2
    assert out.header.get_zooms() == (0.5, np.float32(1 / 3))


def test_boxes_are_read_and_written_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "_MOST_PAGES", 1)  # give pages back after every box
    path = write_nifti(tmp_path / "a.nii", numbers("i2", (40, 70, 37, 2)), order=">")
    source = open_source(path)
    sinks = [create_sink(tmp_path / f"b{suffix}", source.spec) for suffix in SUFFIXES]
    boxes = list(Box.whole(source.spec.grid.shape).split((17, 33, 8)))
    for index in np.random.default_rng(0).permutation(len(boxes)):
        voxels = source.read(boxes[index])
        assert voxels.flags.writeable
        assert voxels.shape == (2, *boxes[index].shape)
        for sink in sinks:
            sink.write(boxes[index], voxels)
    for sink in sinks:
        sink.commit()
    assert same_but_signed(path.read_bytes(), (tmp_path / "b.nii").read_bytes())
    assert (tmp_path / "b.nii").read_bytes() == unpacked(tmp_path / "b.nii.gz")
    assert (tmp_path / "b.img").read_bytes() == unpacked(tmp_path / "b.img.gz")


def test_source_and_sink_keep_the_seams(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", numbers("i2"))
    source = open_source(path)
    sink = create_sink(tmp_path / "b.nii.gz", replace(source.spec, chunks=(2, 2, 2)))
    assert isinstance(source, Source)
    assert isinstance(sink, Sink)
    assert sink.spec.chunks is None
    sink.abort()
    first = read_whole(path)
    source.read(Box.whole((5, 4, 3)))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    assert again.spec == source.spec
    assert np.array_equal(again.read(Box.whole((5, 4, 3))), first)
    again.close()
    assert np.array_equal(again.read(Box.whole((5, 4, 3))), first)
    with pytest.raises(GridError, match="not inside"):
        source.read(Box((0, 0, 0), (6, 4, 3)))


def test_either_file_of_a_pair_names_the_image(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.hdr", numbers("i2"))
    image = tmp_path / "a.img"
    assert list(members(image)) == list(members(path)) == [path]
    assert open_source(image).spec == open_source(path).spec
    out = write_whole(tmp_path / "b.img", open_source(image).spec, read_whole(image))
    assert out.read_bytes() == image.read_bytes()
    assert same_but_signed(path.read_bytes(), (tmp_path / "b.hdr").read_bytes())


def test_an_image_from_nowhere_gets_a_header(tmp_path: Path) -> None:
    grid = Grid.of((6, 5, 4), np.array([[0, 2, 0, 10], [3, 0, 0, -20], [0, 0, 1.5, 7], [0, 0, 0, 1]]), units="mm")
    image = Image.of(np.arange(240).reshape(2, 6, 5, 4), grid)
    write_whole(tmp_path / "a.nii.gz", image.spec, image.voxels)
    out = nib.load(tmp_path / "a.nii.gz")
    assert out.shape == (6, 5, 4, 2)
    assert (int(out.header["sform_code"]), int(out.header["qform_code"])) == (1, 1)
    assert np.allclose(out.get_sform(), grid.centre_affine(), atol=0)
    assert np.allclose(out.get_qform(), grid.centre_affine(), atol=1e-6)
    assert out.header.get_xyzt_units()[0] == "mm"
    again = open_source(tmp_path / "a.nii.gz")
    assert again.spec.grid == grid
    assert np.array_equal(read_whole(tmp_path / "a.nii.gz"), image.voxels)


def test_a_raster_becomes_a_flat_image_where_it_is(tmp_path: Path) -> None:
    grid = Grid.of((6, 5), np.array([[0, 10, 437283.3], [-10, 0, 5673201.7], [0, 0, 1]]), "EPSG:32631", "m")
    image = Image.of(np.ones((1, 6, 5)), grid)
    out = nib.load(write_whole(tmp_path / "a.nii", image.spec, image.voxels))
    assert isinstance(out, nib.Nifti2Image)  # float32 would displace it
    assert out.shape == (6, 5)
    assert out.get_sform()[:2, 3] == pytest.approx(grid.centre_affine()[:2, 2], rel=1e-15)
    assert out.header["descrip"].item() == b"EPSG:32631; geomedsr"


def test_an_axis_too_long_for_nifti_1_makes_it_nifti_2(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header.set_sform(np.diag([0.5, 0.25, 1, 1]), 3)
        header["aux_file"] = b"aux"

    path = write_nifti(tmp_path / "a.nii", numbers("u1", (20000, 2)), order=">", edit=edit)
    out = nib.load(upscaled_copy(path, tmp_path / "b.nii", (2, 1, 1)))
    assert isinstance(out, nib.Nifti2Image)
    assert out.shape == (40000, 2)
    assert (int(out.header["sform_code"]), out.header["aux_file"].item(), out.header.endianness) == (3, b"aux", ">")
    assert np.array_equal(np.asarray(out.dataobj)[::2], numbers("u1", (20000, 2)))


def test_a_long_image_from_nowhere_is_nifti_2(tmp_path: Path) -> None:
    spec = Image.of(np.zeros((1, 40000, 2, 1))).spec
    out = nib.load(write_whole(tmp_path / "a.nii", spec, np.ones(spec.shape)))
    assert isinstance(out, nib.Nifti2Image)
    assert out.shape[:2] == (40000, 2)


@pytest.mark.real
def test_real_images_come_back_with_their_headers(tmp_path: Path) -> None:
    data = os.environ.get("GEOMEDSR_DATA")
    if not data:
        pytest.skip("GEOMEDSR_DATA does not point to the real images")
    paths = [*sorted(Path(data).glob("mri/small/*.nii.gz"))[:3], *sorted(Path(data).glob("mri/*FLAIR_thick.nii.gz"))]
    for path in paths:
        out = write_whole(tmp_path / path.name, open_source(path).spec, read_whole(path))
        assert same_but_signed(unpacked(path), unpacked(out))
