"""OME-Zarr 0.4 and 0.5: where voxels are, what is kept, what others read of it."""

from __future__ import annotations

import json
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import write_nifti
from numpy.typing import NDArray

from geomedsr.errors import InputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec, Source, Voxels
from geomedsr.io import format_of
from geomedsr.io._zarr_pyramid import area_mean
from geomedsr.io.zarr_archive import create_sink, levels, members, open_source

NOISE = np.random.default_rng(0)


def store(
    path: Path,
    axes: str = "zyx",
    shape: tuple[int, ...] = (6, 8, 10),
    scale: Any = 1.0,
    translation: Any = None,
    version: str = "0.5",
    unit: str = "millimeter",
    **more: Any,
) -> Path:
    """An OME-Zarr image of one level whose voxels count up."""
    zarr_format = 3 if version == "0.5" else 2
    kinds = {"t": "time", "c": "channel"}
    told = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    told = [{**axis, "unit": unit} if axis["type"] == "space" and unit else axis for axis in told]
    steps = [scale] * len(axes) if isinstance(scale, int | float) else list(scale)
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": steps}]
    if translation is not None:
        transformations.append({"type": "translation", "translation": translation})
    multiscale = {"axes": told, "datasets": [{"path": "0", "coordinateTransformations": transformations}], **more}
    told_of = {"ome": {"version": version, "multiscales": [multiscale]}}
    if version == "0.4":
        told_of = {"multiscales": [{**multiscale, "version": version}]}  # type: ignore[dict-item]
    group = zarr.create_group(str(path), zarr_format=zarr_format, attributes=told_of)  # type: ignore[arg-type]
    made = group.create_array("0", shape=shape, dtype="uint16", chunks=tuple(min(n, 4) for n in shape))
    made[...] = np.arange(1, np.prod(shape) + 1).reshape(shape)
    return path


def whole(source: Source) -> Voxels:
    return source.read(Box.whole(source.spec.grid.shape))


def written(path: Path, spec: ImageSpec, voxels: Voxels, **options: str) -> Source:
    sink = create_sink(path, spec, options)
    for box in Box.whole(spec.grid.shape).split(sink.spec.chunks or spec.grid.shape):
        sink.write(box, voxels[(slice(None), *box.slices)])
    sink.commit()
    return open_source(path)


def attributes(path: Path) -> dict[str, Any]:
    found = dict(zarr.open_group(str(path), mode="r").attrs)
    ome: dict[str, Any] = found.get("ome", found)  # type: ignore[assignment]
    return ome


def transformation(path: Path, level: int = 0) -> tuple[list[float], list[float]]:
    told = attributes(path)["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    return told[0]["scale"], told[1]["translation"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_voxel_centres_move_by_a_quarter_at_twice_the_resolution(tmp_path: Path, version: str) -> None:
    source = open_source(store(tmp_path / "a.zarr", version=version))
    fine = source.spec.upscaled((2, 2, 2))
    again = written(tmp_path / "b.zarr", fine, whole(source).repeat(2, 1).repeat(2, 2).repeat(2, 3))
    assert transformation(tmp_path / "b.zarr") == ([0.5] * 3, [-0.25] * 3)
    assert again.spec.grid == fine.grid
    assert attributes(tmp_path / "b.zarr")["multiscales"][0].get("version", version) == version
    np.testing.assert_array_equal(whole(again)[:, ::2, 1::2, ::2], whole(source))


@pytest.mark.parametrize(
    ("axes", "shape", "channels", "space"),
    [
        ("zyx", (6, 8, 10), 1, (10, 8, 6)),
        ("xyz", (6, 8, 10), 1, (6, 8, 10)),
        ("yx", (8, 10), 1, (8, 10)),
        ("cyx", (2, 8, 10), 2, (8, 10)),
        ("czyx", (2, 6, 8, 10), 2, (10, 8, 6)),
        ("tczyx", (2, 3, 6, 8, 10), 6, (10, 8, 6)),
    ],
)
def test_space_is_taken_in_the_order_x_y_z(
    tmp_path: Path, axes: str, shape: tuple[int, ...], channels: int, space: tuple[int, ...]
) -> None:
    steps = {"t": 1.0, "c": 1.0, "z": 3.0, "y": 2.0, "x": 1.0}
    source = open_source(store(tmp_path / "a.zarr", axes, shape, [steps[name] for name in axes]))
    assert (source.spec.grid.shape, len(source.spec.channels)) == (space, channels)
    if len(space) == 3:
        assert source.spec.grid.spacing == (1.0, 2.0, 3.0)
        assert np.array_equal(source.spec.grid.matrix, np.diag([1.0, 2.0, 3.0, 1.0]) + _corner(1, 2, 3))
    voxels = whole(source)
    stored = np.arange(1, np.prod(shape) + 1).reshape(-1, *shape[-len(space) :])
    turned = stored if axes.endswith("xyz") or len(space) == 2 else stored.transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(voxels, turned)
    again = written(tmp_path / "b.zarr", source.spec, voxels)
    np.testing.assert_array_equal(whole(again), voxels)
    assert again.spec.grid == source.spec.grid
    box = Box((1,) * len(space), (5,) * len(space))
    np.testing.assert_array_equal(again.read(box), voxels[(slice(None), *box.slices)])
    kept = [axis["name"] for axis in attributes(tmp_path / "b.zarr")["multiscales"][0]["axes"]]
    assert "".join(kept) == axes.replace("xyz", "zyx")


def _corner(*steps: float) -> NDArray[np.float64]:
    shift = np.zeros((4, 4))
    shift[:3, 3] = [-step / 2 for step in steps]
    return shift


def test_outer_transformations_come_after_the_inner(tmp_path: Path) -> None:
    outer = [{"type": "scale", "scale": [2.0] * 3}, {"type": "translation", "translation": [10.0, 20.0, 30.0]}]
    path = store(tmp_path / "a.zarr", scale=3.0, translation=[1.0, 2.0, 3.0], coordinateTransformations=outer)
    grid = open_source(path).spec.grid
    assert grid.spacing == (6.0, 6.0, 6.0)
    assert grid.centre_affine()[:3, 3].tolist() == [36.0, 24.0, 12.0]


def test_the_finest_level_is_the_image_and_the_others_are_named(tmp_path: Path) -> None:
    spec = ImageSpec(Grid.of((150, 140, 90), np.diag([1.0, 1.0, 2.0, 1.0]), units="mm"), ("a",), np.dtype("uint8"))
    voxels = NOISE.integers(0, 200, spec.shape).astype(np.float32)
    written(tmp_path / "a.zarr", spec, voxels)
    found = levels(tmp_path / "a.zarr")
    assert [path.name for path in found] == ["0", "1", "2"]
    assert list(members(tmp_path / "a.zarr")) == [tmp_path / "a.zarr"]
    grids = [open_source(path).spec.grid for path in found]
    assert [grid.shape for grid in grids] == [(150, 140, 90), (75, 70, 90), (38, 35, 45)]
    assert [grid.spacing for grid in grids] == [(1, 1, 2), (2, 2, 2), (4, 4, 4)]
    np.testing.assert_allclose([grid.world((0, 0, 0)) for grid in grids], 0, atol=1e-5)
    assert transformation(tmp_path / "a.zarr", 2) == ([4.0] * 3, [2.0] * 3)
    mean = voxels[0].reshape(75, 2, 70, 2, 90).mean(axis=(1, 3))
    np.testing.assert_array_equal(whole(open_source(found[1]))[0], np.rint(mean))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_area_mean_is_the_mean_of_what_is_valid(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    factor = tuple(data.draw(st.sampled_from([1, 2])) for _ in shape)
    voxels = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    voxels[np.random.default_rng(1).random(shape) < data.draw(st.sampled_from([0.0, 0.4, 1.0]))] = np.nan
    mean = area_mean(voxels, factor)
    for index in np.ndindex(mean.shape):
        block = voxels[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factor, strict=True))]
        valid = block[~np.isnan(block)]
        expected = valid.astype(np.float64).mean() if valid.size else np.nan
        np.testing.assert_allclose(mean[index], expected, rtol=1e-6)


def test_channels_keep_their_names_and_colours(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", "cyx", (3, 8, 10))
    window = {"start": 0, "end": 100, "min": 0, "max": 255}
    channels = [
        {"label": name, "color": f"0000F{i}", "window": window} for i, name in enumerate(("DAPI", "GFP", "RFP"))
    ]
    data = json.loads((path / "zarr.json").read_text())
    data["attributes"]["ome"]["omero"] = {"channels": channels, "rdefs": {"model": "color"}}
    (path / "zarr.json").write_text(json.dumps(data))
    source = open_source(path)
    assert source.spec.channels == ("DAPI", "GFP", "RFP")
    written(tmp_path / "b.zarr", source.spec, whole(source))
    omero = attributes(tmp_path / "b.zarr")["omero"]
    assert [{key: one[key] for key in ("label", "color", "window")} for one in omero["channels"]] == channels
    assert omero["rdefs"] == {"model": "color"}
    chosen = written(tmp_path / "c.zarr", source.spec.with_channels((2, 0)), whole(source)[[2, 0]])
    assert chosen.spec.channels == ("RFP", "DAPI")
    assert [one["color"] for one in attributes(tmp_path / "c.zarr")["omero"]["channels"]] == ["0000F2", "0000F0"]


def test_labels_are_no_images(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    zarr.open_group(str(path), mode="a").create_array("labels/nuclei/0", shape=(6, 8, 10), dtype="uint8")[...] = 1
    assert list(members(path)) == [path]
    collection = tmp_path / "many.zarr"
    zarr.create_group(str(collection))
    store(collection / "0")
    zarr.open_group(str(collection), mode="a").create_array("labels/0", shape=(6, 8, 10), dtype="uint8")[...] = 1
    assert list(members(collection)) == [collection / "0"]


# NIfTI and back

FLIPPED = np.array([[-0.8, 0, 0, 90], [0, 0.9, 0, -120], [0, 0, 3.0, 10], [0, 0, 0, 1.0]])
OBLIQUE = np.array([[0.8, 0.1, 0.0, -90.0], [-0.1, 0.8, 0.6, 120.0], [0.02, -0.2, 1.2, 30.0], [0, 0, 0, 1.0]])


def nifti(
    path: Path,
    affine: NDArray[np.float64],
    *,
    shape: tuple[int, ...] = (7, 8, 9),
    frames: int = 1,
    slope: float = 0.0,
    inter: float = 0.0,
    dtype: str = "int16",
    order: str = "<",
    extension: bytes = b"",
) -> Path:
    """A file with both forms, the qform as near to the sform as it comes."""
    stored = NOISE.integers(0, 1000, (*shape, frames) if frames > 1 else shape).astype(dtype)

    def edit(header: Any) -> None:
        header.set_sform(affine, 2)
        header.set_qform(affine, 1, strip_shears=True)
        header["scl_slope"], header["scl_inter"] = slope, inter
        header["descrip"] = b"made by hand"
        header["pixdim"][4] = 2.5

    size = 8 + len(extension) + -(8 + len(extension)) % 16
    block = struct.pack("<ii", size, 6) + extension.ljust(size - 8, b"\0")
    return write_nifti(path, stored, order=order, edit=edit, after=b"\1\0\0\0" + block if extension else bytes(4))


def nifti_copy(source: Path, target: Path) -> bytes:
    """The bytes of a file that our own sink writes of a source."""
    image = format_of(source).open_source(source)
    sink = format_of(target).create_sink(target, image.spec)
    sink.write(Box.whole(image.spec.grid.shape), whole(image))
    sink.commit()
    return target.read_bytes()


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 1, 1]), FLIPPED, OBLIQUE], ids=["plain", "flipped", "oblique"])
@pytest.mark.parametrize("zarr_format", ["2", "3"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"slope": 0.5, "inter": -3.0},
        {"frames": 3},
        {"dtype": "float32"},
        {"order": ">"},
        {"extension": b"a comment that is kept"},
    ],
    ids=["plain", "scaled", "4D", "float32", "big-endian", "extension"],
)
def test_nifti_to_zarr_and_back_loses_nothing(
    tmp_path: Path, affine: Any, zarr_format: str, more: dict[str, Any]
) -> None:
    path = nifti(tmp_path / "a.nii", affine, **more)
    source = format_of(path).open_source(path)
    middle = tmp_path / "a.zarr"
    again = written(middle, source.spec, whole(source), zarr_format=zarr_format, chunks="8")
    np.testing.assert_array_equal(whole(again), whole(source))
    assert again.spec.grid == source.spec.grid
    header = source.spec.extra["nifti"]
    kept = zarr.open_group(str(middle), mode="r")["nifti"][...]  # type: ignore[index]
    assert np.asarray(kept).tobytes() == header.block + header.after  # type: ignore[attr-defined]
    assert kept.dtype == np.uint8  # type: ignore[union-attr]
    assert nifti_copy(middle, tmp_path / "b.nii") == nifti_copy(path, tmp_path / "c.nii")


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 2, 1]), FLIPPED, OBLIQUE], ids=["plain", "flipped", "oblique"])
def test_a_finer_volume_is_the_same_by_zarr_and_by_nifti(tmp_path: Path, affine: Any) -> None:
    path = nifti(tmp_path / "a.nii", affine)
    source = format_of(path).open_source(path)
    fine, voxels = source.spec.upscaled((2, 1, 3)), whole(source).repeat(2, 1).repeat(3, 3)
    by_zarr = written(tmp_path / "a.zarr", fine, voxels)
    assert by_zarr.spec.grid.same_place(source.spec.grid)
    sink = format_of(path).create_sink(tmp_path / "direct.nii", fine)
    sink.write(Box.whole(fine.grid.shape), voxels)
    sink.commit()
    assert nifti_copy(tmp_path / "a.zarr", tmp_path / "b.nii") == (tmp_path / "direct.nii").read_bytes()
    scale, translation = transformation(tmp_path / "a.zarr")
    spacing = source.spec.grid.spacing
    np.testing.assert_allclose(scale, [spacing[2] / 3, spacing[1], spacing[0] / 2])
    if affine is not FLIPPED and affine is not OBLIQUE:
        np.testing.assert_allclose(translation, [-2 / 3, 0, -0.25])
    else:  # counted from the first voxel of the input, along the image's own axes
        np.testing.assert_allclose(translation, [-spacing[2] / 3, 0, -spacing[0] / 4], atol=1e-6)


def test_coarser_levels_of_an_oblique_volume_lie_where_it_does(tmp_path: Path) -> None:
    grid = Grid.from_centres((130, 66, 50), OBLIQUE, units="mm")
    spec = ImageSpec(grid, ("a",), np.dtype("uint8"))
    written(tmp_path / "a.zarr", spec, np.ones(spec.shape, np.float32))
    coarse = [open_source(path).spec.grid for path in levels(tmp_path / "a.zarr")[1:]]
    assert [level.shape for level in coarse] == [(65, 33, 25), (33, 17, 13)]
    for level in coarse:
        np.testing.assert_allclose(level.world((0, 0, 0)), grid.world((0, 0, 0)), atol=1e-3)
        np.testing.assert_allclose(level.world((16, 16, 12)), grid.world([16 * round(130 / level.shape[0]), *(
            n * round(130 / level.shape[0]) for n in (16, 12))]), atol=1e-3)  # fmt: skip


def test_a_header_of_another_image_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", OBLIQUE)
    source = format_of(path).open_source(path)
    written(tmp_path / "a.zarr", source.spec, whole(source))
    other = format_of(path).open_source(nifti(tmp_path / "b.nii", OBLIQUE, shape=(4, 5, 6)))
    header = other.spec.extra["nifti"]
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="a")
    data = np.frombuffer(header.block + header.after, np.uint8)  # type: ignore[attr-defined]
    group["nifti"][...] = data  # type: ignore[index]
    with pytest.raises(InputError, match=r"is the header of an image of \(4, 5, 6\)"):
        open_source(tmp_path / "a.zarr")


def test_a_header_with_another_spacing_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", OBLIQUE)
    source = format_of(path).open_source(path)
    written(tmp_path / "a.zarr", source.spec, whole(source))
    data = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    told = data["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
    told["scale"] = [2 * step for step in told["scale"]]
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="contradict each other"):
        open_source(tmp_path / "a.zarr")


def test_the_keys_of_chunks_are_nested_as_ngff_has_them(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", version="0.4")
    assert (path / "0/0.0.0").exists()
    source = open_source(path)
    written(tmp_path / "b.zarr", source.spec, whole(source))
    assert (tmp_path / "b.zarr/0/0/0/0").exists()


# What others read


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("channels", [1, 3])
def test_others_read_what_is_written(tmp_path: Path, version: str, channels: int) -> None:
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed")
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    from ome_zarr.io import parse_url

    grid = Grid.of((70, 68, 66), np.diag([0.5, 0.5, 1.0, 1.0]), units="mm")
    spec = ImageSpec(grid, tuple("abc"[:channels]), np.dtype("float32"), has_holes=True)
    voxels = NOISE.random(spec.shape).astype(np.float32)
    path = tmp_path / "a.zarr"
    written(path, spec, voxels, zarr_format="2" if version == "0.4" else "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
        assert type(model).__module__ == f"ome_zarr_models.v0{version[-1]}.image"
        (node,) = list(reader.Reader(parse_url(path))())
        finest = np.asarray(node.data[0])
    assert [level.shape[-3:] for level in node.data] == [(66, 68, 70), (66, 34, 35), (33, 17, 18)]
    np.testing.assert_array_equal(finest.reshape(channels, 66, 68, 70), voxels.transpose(0, 3, 2, 1))
    assert node.metadata["coordinateTransformations"][0][0]["scale"][-3:] == [1.0, 0.5, 0.5]
    assert node.metadata["channel_names"] == list(spec.channels)


def test_an_image_in_memory_needs_no_header_to_keep_its_place(tmp_path: Path) -> None:
    grid = Grid.from_centres((20, 21, 22), OBLIQUE, units="mm")
    image = replace(Image.of(np.ones((1, 20, 21, 22)), grid).spec, dtype=np.dtype("float16"))
    assert written(tmp_path / "a.zarr", image, np.ones(image.shape, np.float32)).spec.grid == grid
