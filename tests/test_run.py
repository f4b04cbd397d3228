from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import geomedsr.model
from geomedsr.data.intensity import IntensityRule
from geomedsr.errors import FailedError, GeomedsrError, InputError, ModelError, NothingMatchedError, OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec, Scaling
from geomedsr.io import format_of
from geomedsr.run import fit as fitting
from geomedsr.run.catalogue import find_model, summaries, summary
from geomedsr.run.channels import Selected, choose_channels, parse_bands
from geomedsr.run.check import check_output, differences
from geomedsr.run.description import describe, is_placeless, lines, orientation
from geomedsr.run.inputs import expand
from geomedsr.run.targets import Inputs, Job, check_conversion, check_space, check_target, make_folder, plan_targets
from geomedsr.run.values import look, value_warnings
from geomedsr.task import Task

S2 = ("B2", "B3", "B4", "B8")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def array(path: Path, shape: tuple[int, ...] = (8, 6)) -> Path:
    image = Image.of(np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape))
    sink = format_of(path).create_sink(path, image.spec)
    sink.write(Box.whole(shape), image.voxels)
    sink.commit()
    return path


def model(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "name": "s2-rgbn-x2",
        "task": Task(2, 4, (2, 2)),
        "channel_names": S2,
        "modality": "optical",
        "spacing": (9.0, 11.0),
        "units": "m",
        "values": (0.0, 2.0),
        "intensity": IntensityRule(),
    }
    return SimpleNamespace(**(values | changes))


def scene(channels: tuple[str, ...] = S2, spacing: float = 10.0, units: str = "m", **extra: object) -> ImageSpec:
    affine = np.array([[0.0, spacing, 5e5], [-spacing, 0.0, 5e6], [0.0, 0.0, 1.0]])
    grid = Grid.of((64, 60), affine, "EPSG:32632", units)
    return ImageSpec(grid, channels, np.dtype(np.uint16), 0.0, None, extra)


def head(spacing: tuple[float, float, float] = (0.9, 0.9, 1.2)) -> ImageSpec:
    return ImageSpec(Grid.of((20, 21, 22), np.diag([*spacing, 1.0]), units="mm"), ("intensity",), np.dtype(np.int16))


# Inputs


def test_a_folder_is_walked_and_keeps_its_names(tmp_path: Path) -> None:
    for name in ("b/scan.nii.gz", "a.tif", ".hidden/x.tif", "b/._scan.nii.gz", "notes.txt", "pair.hdr", "pair.img"):
        touch(tmp_path / name)
    found = expand([str(tmp_path)])
    assert [str(image.relative) for image in found] == ["a.tif", "b/scan.nii.gz", "pair.hdr"]


def test_the_output_folder_is_no_input(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    touch(tmp_path / "fine" / "a.tif")
    assert [image.path for image in expand([str(tmp_path)], tmp_path / "fine")] == [tmp_path / "a.tif"]


@pytest.mark.parametrize("named", ["", "*.tif", "sub", "a.tif"])
def test_the_folder_of_the_input_as_output_hides_no_input(named: str, tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    touch(tmp_path / "sub" / "b.tif")
    assert expand([str(tmp_path / named)], tmp_path)


def test_what_is_no_image_is_found_with_its_failure(tmp_path: Path) -> None:
    touch(tmp_path / "bad.zarr" / "zarr.json")
    touch(tmp_path / "a.tif")
    found = expand([str(tmp_path), str(tmp_path / "nope.nii")], keep_going=True)
    assert [(one.path.name, one.failure is None) for one in found] == [
        ("a.tif", True),
        ("bad.zarr", False),
        ("nope.nii", False),
    ]
    with pytest.raises(InputError, match=r"bad\.zarr"):
        expand([str(tmp_path)])


def test_a_glob_keeps_what_is_below_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path / "raw" / "s1" / "t1.nii")
    touch(tmp_path / "raw" / "s2" / "t1.nii")
    found = expand([str(tmp_path / "raw" / "*" / "t1.nii")])
    assert [str(image.relative) for image in found] == ["s1/t1.nii", "s2/t1.nii"]


def test_an_input_named_twice_is_one(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.tif")
    assert len(expand([str(path), str(tmp_path / "*.tif"), str(tmp_path)])) == 1


def test_arrays_inside_an_archive_are_images(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "scene.zarr"), mode="w", zarr_format=3)
    for name in ("b02", "b03"):
        array(tmp_path / f"{name}.zarr").rename(tmp_path / "scene.zarr" / name)
    whole = expand([str(tmp_path / "scene.zarr")])
    assert [str(image.relative) for image in whole] == ["scene_b02.zarr", "scene_b03.zarr"]
    one = expand([str(tmp_path / "scene.zarr" / "b03")])
    assert [image.path for image in one] == [tmp_path / "scene.zarr" / "b03"]
    assert plan_targets(one, tmp_path / "out")[0].target == tmp_path / "out" / "b03.zarr"


@pytest.mark.parametrize("text", ["", "*.nii", "**/*.tif"])
def test_nothing_matched(text: str, tmp_path: Path) -> None:
    with pytest.raises(NothingMatchedError, match="holds no image"):
        expand([str(tmp_path / text)])


def test_no_such_file_and_no_such_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        expand([str(tmp_path / "a.tif")])
    with pytest.raises(InputError, match="no suffix"):
        expand([str(touch(tmp_path / "a.txt"))])


# Targets


def test_formats_change_the_suffix(tmp_path: Path) -> None:
    found = expand([str(touch(tmp_path / "a.nii")), str(touch(tmp_path / "b.jp2"))])
    targets = [job.target.name for job in plan_targets(found, tmp_path / "out")]
    assert targets == ["a.nii", "b.tif"]
    targets = [job.target.name for job in plan_targets(found, tmp_path / "out", "zarr")]
    assert targets == ["a.zarr", "b.zarr"]


def test_an_output_that_is_neither_file_nor_folder(tmp_path: Path) -> None:
    found = expand([str(touch(tmp_path / "a.nii"))])
    with pytest.raises(OutputError, match="no suffix"):
        plan_targets(found, tmp_path / "out.nifti")
    with pytest.raises(OutputError, match="does not end with"):
        plan_targets(found, tmp_path / "out.nii", "cog")
    with pytest.raises(OutputError, match="is a file"):
        plan_targets(found, touch(tmp_path / "out"))


def test_an_input_of_the_batch_is_no_output(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "a.nii"), touch(tmp_path / "b.nii")
    with pytest.raises(OutputError, match="is the input"):
        check_target(Job(a, b), Inputs([a, b]), replace=True)


def test_the_archive_of_the_input_is_no_output(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr")
    shutil.copytree(path, path / "b02")
    with pytest.raises(OutputError, match="is the input"):
        check_target(Job(path / "b02", path), Inputs([]), replace=True)


def test_a_hard_link_to_the_input_is_no_output(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.nii")
    (tmp_path / "b.nii").hardlink_to(path)
    with pytest.raises(OutputError, match="is the input"):
        check_target(Job(path, tmp_path / "b.nii"), Inputs([]), replace=True)


def test_half_a_pair_is_an_existing_output(tmp_path: Path) -> None:
    touch(tmp_path / "b.img")
    with pytest.raises(OutputError, match=r"b\.img exists already"):
        check_target(Job(touch(tmp_path / "a.nii"), tmp_path / "b.hdr"), Inputs([]), replace=False)
    with pytest.raises(OutputError, match="is the input"):
        check_target(Job(touch(tmp_path / "c.hdr.gz"), tmp_path / "c.img.gz"), Inputs([]), replace=True)


def test_a_folder_that_is_no_archive_is_not_replaced(tmp_path: Path) -> None:
    touch(tmp_path / "mine.zarr" / "thesis.tex")
    with pytest.raises(OutputError, match="not replaced"):
        check_target(Job(touch(tmp_path / "a.nii"), tmp_path / "mine.zarr"), Inputs([]), replace=True)


def test_a_folder_that_is_made_is_known(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a" / "b") == []


def test_a_small_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 0, 100))
    assert check_space(tmp_path / "a.tif", 50) is None
    assert "before compression" in str(check_space(tmp_path / "a.tif", 300))
    with pytest.raises(OutputError, match=r"choose another disk, or \.nii\.gz"):
        check_space(tmp_path / "a.nii", 101)


# Channels


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (S2, None),
        (("B02", "B03", "B04", "B05", "B08", "B8A"), (0, 1, 2, 4)),
        (("B8 - nir", "b4", "B03_10m", "b02"), (3, 2, 1, 0)),
        (("red", "green", "blue", "nir"), (2, 1, 0, 3)),
        (("Red edge 1", "Blue", "Green", "Red", "NIR"), (1, 2, 3, 4)),
    ],
)
def test_bands_are_found_by_name(present: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    assert choose_channels("m", S2, present, "a.tif") == (expected, None)


def test_bands_are_taken_in_order_with_a_note() -> None:
    index, note = choose_channels("m", S2, ("channel 1", "channel 2", "channel 3", "channel 4"), "a.tif")
    assert index is None
    assert note is not None
    assert "in the order of the file" in note


def test_names_that_contradict_are_no_match() -> None:
    landsat = ("B1 blue", "B2 green", "B3 red", "B4 nir")
    assert choose_channels("m", S2, landsat, "a.tif")[1] is not None


def test_too_many_bands_are_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"m needs 4 channels \(B2, B3, B4, B8\); a.tif has 10. Pass --bands"):
        choose_channels("m", S2, tuple(f"channel {i}" for i in range(10)), "a.tif")
    with pytest.raises(ModelError, match=r"by name, B2 is 1, B3 is 2.*its B2, B3, B4, B8, in this order"):
        choose_channels("m", S2, ("B02", "B03", "x", "y", "z"), "a.tif")


def test_bands_in_a_wrong_order_are_warned_of() -> None:
    stack = ("B02", "B03", "B04", "B05", "B06", "B07", "B08")
    assert fitting.fit(model(), scene(stack), "a.tif", "1,2,3,7", None).warnings == ()
    assert fitting.fit(model(), scene(stack), "a.tif", "B02,B03,B04,B08", None).warnings == ()
    (warning,) = fitting.fit(model(), scene(stack), "a.tif", "3,2,1,7", None).warnings
    assert "calls B04, B02 what s2-rgbn-x2 takes as B2, B4" in warning
    (warning,) = fitting.fit(model(), scene(("B02", "B03", "B04", "B8A")), "a.tif", None, None).warnings
    assert "calls B8A what s2-rgbn-x2 takes as B8" in warning
    assert fitting.fit(model(), scene(("band 1", "band 2", "band 3", "band 4")), "a.tif", None, None).warnings == ()


def test_bands_that_are_not_there() -> None:
    assert parse_bands("2, B04", ("B8", "B4"), "a.tif") == (1, 1)
    for text in ("0", "3", "swir", "1,"):
        with pytest.raises(ModelError):
            parse_bands(text, ("B8", "B4"), "a.tif")


def test_selected_channels_are_a_source() -> None:
    image = Image.of(np.arange(24.0).reshape(3, 4, 2))
    chosen = Selected(image, (2, 0))
    assert chosen.spec.channels == ("channel 3", "channel 1")
    assert np.array_equal(chosen.read(Box.whole((4, 2))), image.voxels[[2, 0]])


# Whether a model fits


def test_a_model_that_fits_says_nothing() -> None:
    assert fitting.fit(model(), scene(), "a.tif", None, None) == fitting.Fit(None, None)


def test_spacing_outside_the_model_is_warned_of_with_the_numbers() -> None:
    (warning,) = fitting.fit(model(), scene(spacing=30.0), "a.tif", None, None).warnings
    assert "30 x 30 m" in warning
    assert "9 to 11 m" in warning
    (warning,) = fitting.fit(model(), scene(spacing=1e-4, units="degree"), "a.tif", None, None).warnings
    assert "cannot be compared" in warning


def doubts(model: Any, image: Image, **asked: Any) -> str:
    return " ".join(value_warnings(model, image, replace(image.spec, **asked), "a.tif"))


def stored_as(voxels: Any, dtype: str, scaling: tuple[Scaling, ...] = ()) -> Image:
    image = Image.of(voxels)
    return Image(replace(image.spec, dtype=np.dtype(dtype), scaling=scaling), image.voxels)


def test_values_outside_the_model_are_warned_of_with_the_numbers() -> None:
    image = Image.of(np.linspace(0, 5, 4 * 200 * 200).reshape(4, 200, 200))
    assert "outside 0 to 2" in doubts(model(), image)
    assert doubts(model(values=(0, 5)), image) == ""
    assert doubts(model(), Image.empty(image.spec)) == ""


def test_ct_in_a_model_for_mri_is_warned_of() -> None:
    t1 = model(name="t1", modality="mri", values=None)
    image = Image.of(np.linspace(-1000, 900, 64**3).reshape(1, 64, 64, 64))
    assert "below -150, as in CT" in doubts(t1, image)
    assert doubts(t1, Image.of(np.abs(image.voxels))) == ""


def test_values_that_float32_cannot_hold_are_warned_of() -> None:
    cubic = model(name="cubic", modality="any", values=None)
    ramp = np.linspace(0, 1, 400).reshape(1, 20, 20)
    assert "the last digits are lost" in doubts(cubic, stored_as(ramp * 2e9, "int32"))
    assert "the last digits are lost" in doubts(cubic, stored_as(ramp, "uint32", (Scaling(2.0**-32),)))
    assert doubts(cubic, stored_as(ramp * 1e6, "int32")) == ""
    assert "subtract an offset" in doubts(cubic, stored_as(ramp + 101325.0, "float64"))
    assert doubts(cubic, stored_as(ramp * 1e9, "float64")) == ""


def test_a_picture_of_8_bits_is_no_reflectance() -> None:
    reflectance = model(values=(0.0, 16000.0), intensity=IntensityRule(name="reflectance", high=0.3))
    ramp = np.linspace(3, 255, 4 * 400).reshape(4, 20, 20)
    assert "uint8 with values of 3 to 255; s2-rgbn-x2 takes reflectances" in doubts(
        reflectance, stored_as(ramp, "uint8")
    )
    assert doubts(reflectance, stored_as(ramp * 10, "uint16")) == ""


def test_a_type_that_is_too_small_is_warned_of() -> None:
    cubic = model(name="cubic", modality="any", values=None)
    image = stored_as(np.linspace(0, 510, 400).reshape(1, 20, 20), "uint16")
    assert "50% of the values sampled in a.tif (0 to 510 as they are stored) do not fit into uint8" in doubts(
        cubic, image, dtype=np.dtype(np.uint8)
    )
    assert doubts(cubic, image, dtype=np.dtype(np.int16)) == ""
    assert doubts(cubic, image, dtype=np.dtype(np.uint8), scaling=(Scaling(2.0),)) == ""


def test_a_long_series_is_looked_at_in_small_boxes() -> None:
    boxes: list[Box] = []
    spec = ImageSpec(Grid.plain((64, 64, 64)), tuple(f"frame {i}" for i in range(2000)), np.dtype(np.int16))

    def read(box: Box) -> Any:
        boxes.append(box)
        return np.zeros((2000, *box.shape), np.float32)

    look(SimpleNamespace(spec=spec, read=read))
    assert all(2000 * box.size <= 1 << 22 for box in boxes)


def test_a_planar_model_works_in_the_plane_of_the_slices() -> None:
    t1 = model(name="t1", task=Task(2, 1, (2, 2)), channel_names=("T1",), modality="mri", spacing=None)
    assert fitting.fit(t1, head(), "a.nii", None, None).axes == (0, 1)
    assert fitting.fit(t1, head((1.2, 0.9, 0.9)), "a.nii", None, None).axes == (1, 2)
    assert fitting.fit(t1, head(), "a.nii", None, (0, 2)).axes == (0, 2)
    with pytest.raises(ModelError, match="different numbers from 0 to 2"):
        fitting.fit(t1, head(), "a.nii", None, (0, 3))


@pytest.mark.parametrize(
    ("changes", "spec", "bands", "sentence"),
    [
        ({}, head(), None, "is a medical volume"),
        ({"task": Task(3, 4, (2, 2, 2))}, scene(), None, "works on volumes of 3 axes"),
        ({}, scene(palette=True), None, "colour table"),
        ({}, scene(), "1,2", "--bands 1,2 names 2"),
    ],
)
def test_a_model_that_does_not_fit(changes: dict[str, Any], spec: ImageSpec, bands: str | None, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        fitting.fit(model(**changes), spec, "a.tif", bands, None)


def test_the_scale_is_the_models_or_the_users() -> None:
    assert fitting.scale_factor("cubic", None, (1, 1, 4), (8, 8, 8)) == (1, 1, 4)
    assert fitting.scale_factor("m", (2, 2), (2,), (8, 8)) == (2, 2)
    with pytest.raises(ModelError, match="pass --scale 2"):
        fitting.scale_factor("cubic", None, None, (8, 8, 8))
    with pytest.raises(ModelError, match="2 x 2 times finer and nothing else"):
        fitting.scale_factor("m", (2, 2), (4,), (8, 8))


def test_one_number_leaves_the_axis_of_a_single_voxel_alone() -> None:
    assert fitting.scale_factor("cubic", None, (2,), (40, 36, 1)) == (2, 2, 1)
    assert fitting.scale_factor("cubic", None, (2, 2, 2), (40, 36, 1)) == (2, 2, 2)
    t1 = model(name="t1", task=Task(2, 1, (2, 2)), channel_names=("T1",), modality="mri", spacing=None)
    slice_ = ImageSpec(Grid.of((40, 36, 1), np.diag([1.7, 1.7, 1.0, 1.0]), units="mm"), ("a",), np.dtype(np.int16))
    assert fitting.fit(t1, slice_, "a.nii", None, None).axes == (0, 1)


# Catalogue, check, description


def test_the_baselines_are_named_alike() -> None:
    assert fitting.BASELINES == geomedsr.model.BASELINES


def test_each_model_has_a_summary() -> None:
    assert [one.name for one in summaries()][-4:] == list(fitting.BASELINES)
    with pytest.raises(ModelError, match="There is no model x9; there are"):
        summary("x9")


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        find_model(str(tmp_path))


def test_the_check_reads_the_output_back(tmp_path: Path) -> None:
    path = array(tmp_path / "a.zarr")
    spec = format_of(path).open_source(path).spec
    assert "corners within 0.0e+00 voxel" in str(check_output(path, spec))
    with pytest.raises(FailedError, match="its shape is"):
        check_output(path, spec.upscaled((2, 2)))


@pytest.mark.parametrize("suffix", [".zarr", ".tif", ".nii.gz", ".hdr"])
def test_an_output_that_came_out_wrong_never_takes_the_old_ones_place(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = array(tmp_path / "a.zarr"), tmp_path / "out" / f"b{suffix}"
    target.parent.mkdir()
    geomedsr.upscale(source, target, "linear", scale=(3,))
    old = {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()}
    monkeypatch.setattr("geomedsr.run.check.differences", lambda *_: ["its shape is another"])
    with pytest.raises(FailedError, match="did not come out as it should: its shape is another"):
        geomedsr.upscale(source, target, "linear", scale=(2,), overwrite=True)
    assert {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()} == old
    with pytest.raises(FailedError, match="did not come out"):
        geomedsr.upscale(source, tmp_path / f"new{suffix}", "linear", scale=(2,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "out"]


def test_python_takes_what_is_natural_to_write(tmp_path: Path) -> None:
    source = array(tmp_path / "a.zarr")
    report = geomedsr.upscale(source, tmp_path / "b.zarr", "linear", scale=2, tile=8, dtype=np.uint8, bands=[1])
    assert report.after is not None
    assert (report.after.grid.shape, report.after.dtype) == ((16, 12), np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"scale": "two"}, "scale"),
        ({"scale": (2,), "form": "bmp"}, "There is no --format bmp"),
        ({"scale": (2,), "dtype": "int7"}, "There is no --dtype int7"),
        ({"scale": (2,), "dtype": object()}, "dtype cannot be"),
        ({"scale": (2,), "overwrite": True, "skip_existing": True}, "choose one"),
    ],
)
def test_python_hears_of_its_mistakes(choices: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(GeomedsrError, match=sentence):
        geomedsr.upscale(array(tmp_path / "a.zarr"), tmp_path / "b.zarr", "linear", **choices)


def test_python_upscales_one_image_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.zarr", "b.zarr"):
        array(tmp_path / "in" / name)
    with pytest.raises(InputError, match="in is a folder of 2 images; upscale takes one image"):
        geomedsr.upscale(tmp_path / "in", tmp_path / "out", "linear", scale=2)


def test_an_archive_without_images_is_nothing_matched(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "empty.zarr"), mode="w", zarr_format=3)
    with pytest.raises(NothingMatchedError, match=r"empty\.zarr holds no image"):
        expand([str(tmp_path / "empty.zarr")])
    touch(tmp_path / "a.tif")
    assert len(expand([str(tmp_path)])) == 1


def test_a_format_that_cannot_hold_the_image(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no place for a raster's CRS"):
        check_conversion(tmp_path / "a.nii.gz", scene())
    with pytest.raises(OutputError, match="which has 2 axes; the image has 3"):
        check_conversion(tmp_path / "a.tif", head())
    check_conversion(tmp_path / "a.zarr", scene())


def test_the_check_tells_each_difference() -> None:
    spec = scene()
    assert differences(spec, spec) == []
    assert differences(replace(spec, nodata=None), spec) == ["its nodata is none, not 0"]
    moved = replace(spec, grid=spec.grid.cropped(Box((1, 0), (64, 60))).with_shape((64, 60)))
    assert differences(moved, spec) == ["its corners are 1 voxels from where they should be"]


def test_what_has_no_place_is_said_to_have_none(tmp_path: Path) -> None:
    (facts,) = describe(array(tmp_path / "a.zarr"))
    assert (facts["orientation"], facts["placed"]) == ("unknown", False)
    assert "place        unknown" in lines(facts)
    assert is_placeless(Grid.plain((4, 4)).upscaled((2, 2)))
    assert not is_placeless(scene().grid)
    assert not is_placeless(Grid.from_centres((4, 4, 4), np.eye(4)))


def test_orientation() -> None:
    assert orientation(scene().grid) == "north up"
    assert orientation(Grid.of((2, 2, 2), np.diag([-1.0, -1.0, 1.0, 1.0]))) == "LPS+"
