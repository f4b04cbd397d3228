"""`geomedsr verify` from the command line: what is said, what is written, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from geomedsr.cli import run_command
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.io import format_of
from geomedsr.run.library import upscale
from geomedsr.run.verifying import verify
from geomedsr.trust.verify import Check, Verification

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A piece of the sample scene and what its model makes of it."""
    folder = tmp_path_factory.mktemp("made")
    source = format_of(ROOT / "sample_data/scene.tif").open_source(ROOT / "sample_data/scene.tif")
    box = Box((0, 0), (96, 110))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), chunks=None)
    write(folder / "in.tif", spec, source.read(box))
    upscale(folder / "in.tif", folder / "out.tif", "s2-rgbn-x2")
    return folder / "in.tif", folder / "out.tif"


def write(path: Path, spec: ImageSpec, voxels: np.ndarray) -> Path:
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(spec.grid.shape), voxels.astype(np.float32))
    sink.commit()
    return path


def read(path: Path) -> Image:
    source = format_of(path).open_source(path)
    return Image(source.spec, source.read(Box.whole(source.spec.grid.shape)))


def check(found: Verification, name: str) -> Check:
    return next(one for one in found.checks if one.name == name)


def test_an_honest_output_passes_by_its_own_model(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = made
    command = ["verify", str(out), "--against", str(before), "--map", str(tmp_path / "new" / "map.tif")]
    assert run_command([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "s2-rgbn-x2"  # the output says so itself
    assert {one["status"] for one in told["checks"]} <= {"ok", "warn"}
    assert {one["channel"] for one in told["checks"] if one["name"] == "consistency"} == {"B2", "B3", "B4", "B8"}
    assert all("sensor" in one["explanation"] for one in told["checks"] if one["name"] == "consistency")
    residual, source = read(tmp_path / "new" / "map.tif"), read(before)
    assert residual.spec.grid.same_place(source.spec.grid)
    assert residual.spec.channels == source.spec.channels
    assert np.isnan(residual.voxels[np.isnan(source.voxels)]).all()
    assert np.nanmax(np.abs(residual.voxels)) < 0.05 * np.nanmax(source.voxels)
    assert run_command(command) == 2
    assert "map.tif exists" in capsys.readouterr().err


def test_the_table_names_the_check_that_fails(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = made
    image = read(out)
    lost = np.where(np.isnan(image.voxels), np.nanmean(image.voxels), image.voxels)
    wrong = write(tmp_path / "wrong.tif", image.spec, lost)
    assert run_command(["verify", str(wrong), "--against", str(before)]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {row[1] for row in rows if row[0] == "fail"} >= {"nodata"}
    assert {row[1] for row in rows if row[0] == "ok"} >= {"geometry", "header", "shift"}


def test_another_place_and_another_crs_fail(made: tuple[Path, Path], tmp_path: Path) -> None:
    before, out = made
    image = read(out)
    grid = image.spec.grid
    matrix = grid.matrix
    matrix[0, 2] += 0.5 * grid.spacing[0]
    moved = replace(image.spec, grid=Grid.of(grid.shape, matrix, grid.crs, grid.units))
    found = check(verify(write(tmp_path / "moved.tif", moved, image.voxels), before), "geometry")
    assert (found.status, found.found) == ("fail", pytest.approx(0.5, abs=1e-6))
    with rasterio.open(out) as source, rasterio.open(tmp_path / "crs.tif", "w", **source.profile) as target:
        target.write(source.read())
        target.crs = "EPSG:32631"
    assert "32631" in check(verify(tmp_path / "crs.tif", before), "geometry").explanation


def test_another_header_warns(made: tuple[Path, Path], tmp_path: Path) -> None:
    before, out = made
    image = read(out)
    spec = replace(image.spec, dtype=np.dtype(np.float32))
    found = check(verify(write(tmp_path / "float.tif", spec, image.voxels), before), "header")
    assert found.status == "warn"
    assert "float32, not uint16" in found.explanation


def test_a_shape_that_is_no_multiple_is_all_that_is_told(made: tuple[Path, Path], tmp_path: Path) -> None:
    before, out = made
    image = read(out)
    box = Box((0, 0), (191, 200))
    spec = replace(image.spec, grid=image.spec.grid.cropped(box))
    found = verify(write(tmp_path / "cut.tif", spec, image.voxels[:, :191, :200]), before)
    assert [(one.name, one.status) for one in found.checks] == [("geometry", "fail")]


def test_what_cannot_be_compared_is_one_sentence(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = made
    head = ROOT / "sample_data" / "mri_t1.nii.gz"
    profile = {"driver": "GTiff", "width": 220, "height": 192, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "three.tif", "w", **profile, transform=Affine(5, 0, 0, 0, -5, 0)) as file:
        file.write(np.ones((3, 192, 220), np.uint16))
    for command, words in [
        ([str(head), "--against", str(before)], "3 axes"),
        ([str(tmp_path / "three.tif"), "--against", str(before)], "--bands"),
        ([str(out), "--against", str(before), "-m", "nope"], "no model nope"),
        ([str(out), "--against", str(tmp_path / "none.tif")], "no file"),
        ([str(out), "--against", str(before), "--bands", "9"], "no band 9"),
    ]:
        assert run_command(["verify", *command]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert words in said[0]


def test_a_model_of_other_weights_is_not_trusted(made: tuple[Path, Path], tmp_path: Path) -> None:
    before, out = made
    image = read(out)
    assert image.spec.provenance is not None
    told = json.loads(image.spec.provenance)
    told["model"]["sha256"] = "0" * 64
    other = write(tmp_path / "other.tif", replace(image.spec, provenance=json.dumps(told)), image.voxels)
    assert "average" in check(verify(other, before), "consistency").explanation
    assert "sensor" in check(verify(other, before, model="s2-rgbn-x2"), "consistency").explanation


def test_an_output_in_another_format_is_in_the_same_place(tmp_path: Path) -> None:
    grid = Grid.of((40, 44), np.array([[0, 10, 5e5], [-10, 0, 5e6], [0, 0, 1.0]]), "EPSG:32632", "m")
    voxels = np.random.default_rng(0).random((1, 40, 44)).astype(np.float32)
    source = write(tmp_path / "in.zarr", ImageSpec(grid, ("red",), np.dtype(np.float32)), voxels)
    upscale(source, tmp_path / "out.tif", "cubic", scale=2)
    found = verify(tmp_path / "out.tif", source)
    assert [check(found, name).status for name in ("geometry", "header", "shift")] == ["ok", "ok", "ok"]


def test_images_without_a_place_have_none_to_lose(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).random((1, 40, 44)).astype(np.float32)
    source = write(tmp_path / "in.tif", Image.of(voxels).spec, voxels)
    upscale(source, tmp_path / "out.tif", "cubic", scale=2)
    assert check(verify(tmp_path / "out.tif", source), "geometry").status == "ok"
