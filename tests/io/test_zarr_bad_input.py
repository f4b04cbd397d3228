"""Stores that are no stores, lie, or lead elsewhere: one sentence each, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from geomedsr.cli import run_command
from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io.zarr_archive import members, open_source

Edit = Callable[[dict[str, Any]], object]


def image(path: Path, **more: Any) -> Path:
    """An OME-Zarr image of one level, edited as JSON."""
    scale: list[Any] = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    told = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], **more}
    group = zarr.create_group(str(path), attributes={"ome": {"version": "0.5", "multiscales": [told]}})
    group.create_array("0", shape=(8, 8, 8), dtype="uint8", chunks=(4, 4, 4))[...] = 7
    return path


def dataset(path: str = "0", *transformations: dict[str, Any]) -> dict[str, Any]:
    return {"datasets": [{"path": path, "coordinateTransformations": list(transformations)}]}


def scaled(*scale: Any) -> dict[str, Any]:
    return dataset("0", {"type": "scale", "scale": list(scale)})


MULTISCALES = [
    (dataset("9", {"type": "scale", "scale": [1, 1, 1]}), "name '9', and there is no array"),
    (dataset("../outside", {"type": "scale", "scale": [1, 1, 1]}), "names '../outside', which leads out of it"),
    (dataset("/etc", {"type": "scale", "scale": [1, 1, 1]}), "names '/etc', which leads out of it"),
    (dataset("0/../..", {"type": "scale", "scale": [1, 1, 1]}), "leads out of it"),
    (dataset("s3://bucket/0", {"type": "scale", "scale": [1, 1, 1]}), "leads out of it"),
    ({"datasets": [{"path": 3, "coordinateTransformations": []}]}, "leads out of it"),
    ({"datasets": [{"path": "0"}]}, "has no coordinateTransformations for its dataset '0'; it needs a scale"),
    (dataset("0"), "has no coordinateTransformations for its dataset '0'; it needs a scale"),
    (scaled(0, 1, 1), r"has the scale \[0, 1, 1\]; it must be 3 numbers, positive and finite"),
    (scaled(1, -1, 1), r"has the scale \[1, -1, 1\]; it must be 3 numbers, positive and finite"),
    (scaled(1, 1, "NaN"), "it must be 3 numbers, positive and finite"),
    (scaled(1, 1, float("inf")), "it must be 3 numbers, positive and finite"),
    (scaled(1, 1), "it must be 3 numbers, positive and finite"),
    (scaled(1, 1, None), "are broken"),
    (dataset("0", {"type": "affine", "affine": []}), "a transformation of the kind 'affine'"),
    (dataset("0", {"type": "scale", "path": "elsewhere"}), "a transformation of the kind 'scale'"),
    (dataset("0", {"type": "translation", "translation": ["NaN", 0, 0]}), "it must be 3 numbers, finite"),
    ({"axes": ["z", "y", "x"]}, "without axes; 0.4 and 0.5 are read"),
    ({"axes": [{"name": "x", "type": "space"}]}, r"has the axes x \(space\)"),
    ({"axes": [{"name": n, "type": t} for n, t in (("y", "space"), ("x", "space"), ("c", "channel"))]}, "2 or 3 of"),
    ({"axes": [{"name": n, "type": "space", "unit": u} for n, u in zip("zyx", "abc", strict=True)]}, "give space one"),
    ({"axes": [{"name": n, "type": "space"} for n in "yx"], **scaled(1, 1)}, "has 3 axes, and its multiscales 2"),
    ({"datasets": []}, "name no dataset"),
    ({"datasets": None}, "are broken"),
]


@pytest.mark.parametrize(("change", "sentence"), MULTISCALES, ids=[sentence[:40] for _, sentence in MULTISCALES])
def test_multiscales_that_cannot_be_are_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path / "a.zarr", **change)
    with pytest.raises(InputError, match=sentence):
        open_source(path)
    assert_refused(path, capsys)


def assert_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program says one sentence, ends with 2, and leaves nothing behind."""
    before = sorted(path.parent.iterdir())
    out = path.parent / "out.zarr"
    assert run_command(["upscale", str(path), "-o", str(out), "-m", "nearest", "--scale", "2"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("geomedsr: error: ")
    assert len(said.splitlines()) == 1
    assert sorted(path.parent.iterdir()) == before


def edited(path: Path, edit: Edit, name: str = "zarr.json") -> Path:
    data = json.loads((path / name).read_text())
    edit(data)
    (path / name).write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("content", [None, "text", "{}", '{"zarr_format": 3}', '{"node_type": "array"}'])
def test_what_is_no_zarr_is_refused(tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.zarr"
    path.mkdir()
    if content is not None:
        (path / "zarr.json").write_text(content)
    with pytest.raises(InputError, match=r"is no zarr store|is broken"):
        open_source(path)
    assert_refused(path, capsys)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda data: data["chunk_grid"]["configuration"].update(chunk_shape=[1 << 40] * 3),
            "more than the 1.1 GB that may be",
        ),
        (lambda data: data.update(data_type="variable_length_bytes"), "only whole and real numbers"),
        (lambda data: data["codecs"].append({"name": "numcodecs.pickle"}), "codec pickle, which is not decoded"),
        (lambda data: data.update(shape=[8, 8, 0]), "has no voxels"),
        (lambda data: data.update(shape=[8, 8, -8]), "is broken"),
    ],
)
def test_an_array_that_cannot_be_is_refused(
    tmp_path: Path, edit: Edit, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path / "a.zarr")
    edited(path / "0", edit)
    with pytest.raises(InputError, match=sentence):
        open_source(path)
    assert_refused(path, capsys)


def test_object_arrays_are_refused_before_anything_is_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(8, 8), dtype="uint8", zarr_format=2)[...] = 1

    def lie(data: dict[str, Any]) -> None:
        data.update(dtype="|O", filters=[{"id": "pickle", "protocol": 5}])

    edited(path, lie, ".zarray")
    (path / "0.0").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(InputError, match="only whole and real numbers are images"):
        open_source(path)
    assert_refused(path, capsys)
    assert not (tmp_path / "owned").exists()


def test_a_shard_of_too_many_chunks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(64, 64), dtype="uint8", chunks=(4, 4), shards=(8, 8))
    edited(path, lambda data: data["chunk_grid"]["configuration"].update(chunk_shape=[1 << 40, 1 << 40]))
    with pytest.raises(InputError, match="hold more than 4194304 chunks each"):
        open_source(path)


def test_a_shape_beyond_all_memory_is_read_in_boxes(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(str(path), shape=(1 << 19, 1 << 19), dtype="uint8", chunks=(64, 64))
    array[:64, :64] = 5
    source = open_source(path)
    assert (source.read(Box((0, 0), (64, 64))) == 5).all()
    assert np.isnan(source.read(Box((1 << 18, 0), ((1 << 18) + 2, 2)))).all()


# Links


def test_a_link_to_an_object_outside_is_not_followed(tmp_path: Path) -> None:
    path = image(tmp_path / "a.zarr")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    (path / "0/c/0/0/0").unlink()
    os.symlink(secret, path / "0/c/0/0/0")
    with pytest.raises(InputError, match="is a link, which is not followed"):
        open_source(path).read(Box.whole((8, 8, 8)))


def test_a_link_to_a_folder_outside_is_not_followed(tmp_path: Path) -> None:
    path, other = image(tmp_path / "a.zarr"), image(tmp_path / "b.zarr")
    (path / "0/c").rename(tmp_path / "aside")
    os.symlink(other / "0/c", path / "0/c")
    with pytest.raises(InputError, match="link"):
        open_source(path).read(Box.whole((8, 8, 8)))


def test_a_link_to_an_array_outside_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = image(tmp_path / "a.zarr"), image(tmp_path / "b.zarr")
    (path / "0").rename(tmp_path / "aside")
    os.symlink(other / "0", path / "0")
    with pytest.raises(InputError, match="names '0', which is a link; it is not followed"):
        open_source(path)
    assert_refused(path, capsys)


def test_a_store_may_itself_be_a_link(tmp_path: Path) -> None:
    image(tmp_path / "a.zarr")
    os.symlink(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert (open_source(tmp_path / "b.zarr").read(Box.whole((8, 8, 8))) == 7).all()


# Consolidated metadata


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata_is_not_believed(tmp_path: Path, zarr_format: int) -> None:
    """What it says of an array is ignored, also where it names one that is not there: each node tells of itself."""
    path = tmp_path / "a.zarr"
    group = zarr.create_group(str(path), zarr_format=zarr_format)  # type: ignore[arg-type]
    group.create_array("b02", shape=(8, 9), dtype="uint8")[...] = 3
    zarr.consolidate_metadata(str(path))
    if zarr_format == 3:
        data = json.loads((path / "zarr.json").read_text())
        told = data["consolidated_metadata"]["metadata"]
        told["b02"].update(shape=[800, 900], data_type="float64")
        told["ghost"] = told["b02"]
        (path / "zarr.json").write_text(json.dumps(data))
    else:
        data = json.loads((path / ".zmetadata").read_text())
        data["metadata"]["b02/.zarray"].update(shape=[800, 900], dtype="<f8")
        data["metadata"]["ghost/.zarray"] = data["metadata"]["b02/.zarray"]
        (path / ".zmetadata").write_text(json.dumps(data))
    assert list(members(path)) == [path / "b02"]
    source = open_source(path)
    assert (source.spec.grid.shape, source.spec.dtype) == ((8, 9), np.uint8)
    assert (source.read(Box.whole((8, 9))) == 3).all()


def test_a_raster_level_that_leads_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_group(str(path), attributes={"multiscales": {"layout": [{"asset": "../b.zarr"}]}})
    image(tmp_path / "b.zarr")
    with pytest.raises(InputError, match=r"names '\.\./b\.zarr', which leads out of it"):
        list(members(path))


def test_a_raster_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_group(str(path), attributes={"multiscales": {"layout": [{"asset": "r10m"}]}})
    with pytest.raises(InputError, match="name 'r10m', and there is nothing"):
        list(members(path))
