"""A pack: the same training, on a machine that has neither the files nor the libraries of their formats."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL_RECIPE, shapes

from geomedsr.cli import run_command
from geomedsr.errors import InputError, OutputError
from geomedsr.grid import Box
from geomedsr.image import Image, ImageSpec, Voxels
from geomedsr.io import format_of
from geomedsr.recipe import Recipe
from geomedsr.run.packing import open_packed, pack_files
from geomedsr.run.training import open_subjects, train_files

WITHOUT = """
import importlib.machinery as machinery, sys
found = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.split(".")[0] in {missing} else found(name, path, target)
)
from geomedsr.cli import run_command
sys.exit(run_command(sys.argv[1:]))
"""


def write(path: Path, voxels: Voxels, kind: str, crs: str | None = None, nodata: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = replace(Image.of(voxels).spec.grid, crs=crs)
    spec = ImageSpec(grid, tuple(f"b{i}" for i in range(len(voxels))), np.dtype(kind), nodata)
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(grid.shape), voxels)
    sink.commit()
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two rasters with a mask and a true coarse image, a volume, and one that is not of the recipe."""
    folder = tmp_path / "data"
    for number in range(2):
        image = shapes(number, (1, 48, 40)).voxels.round()
        write(folder / "fine" / f"a{number}.tif", image, "int16", "EPSG:32633")
        write(folder / "masks" / f"a{number}_mask.tif", np.ones_like(image), "uint8", "EPSG:32633")
    write(folder / "b.nii.gz", shapes(2, (1, 48, 40, 16)).voxels, "float32")
    write(folder / "other.tif", shapes(3).voxels, "float32")
    return folder


def recipe(train: str = "{files: 'fine/*.tif', mask: '../masks/{name}_mask.tif'}") -> Recipe:
    return Recipe.from_yaml(SMALL_RECIPE, "small", {"data": f"{{train: [{train}], validate: [b.nii.gz]}}"})


def test_a_training_from_a_pack_is_the_same_training(data: Path, tmp_path: Path) -> None:
    found = pack_files(recipe(), data, tmp_path / "pack")
    assert len(found) == 5
    assert not (tmp_path / "pack" / "other.tif").exists()
    one = train_files(recipe(), data, tmp_path / "one", quiet=True)
    other = train_files(recipe(), tmp_path / "pack", tmp_path / "two", quiet=True)
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert one.scores == other.scores
    assert one.calibration == other.calibration
    for ours, theirs in zip(
        open_subjects(recipe(), tmp_path / "pack").train, open_subjects(recipe(), data).train, strict=True
    ):
        assert ours.source.spec.grid == theirs.source.spec.grid
        assert ours.intensity == theirs.intensity


@pytest.mark.parametrize(
    ("voxels", "kind"),
    [
        ([0, 255], "uint8"),
        ([-1, 300], "int16"),
        ([0, 40_000], "uint16"),
        ([-1, 40_000], "int32"),
        ([0, 0.5], "float32"),
        ([0, 1, np.nan], "float32"),
        ([0, 1e12], "float32"),
    ],
)
def test_every_voxel_comes_back(tmp_path: Path, voxels: list[float], kind: str) -> None:
    image = np.resize(np.array(voxels, np.float32), (1, 150, 24))
    write(tmp_path / "data" / "fine" / "a.tif", image, "float32")
    (target,) = pack_files_of(tmp_path, "{files: fine/a.tif}")
    source = open_packed(target)
    np.testing.assert_array_equal(source.read(Box.whole((150, 24))), image)
    assert source.source.spec.dtype == kind  # type: ignore[attr-defined]
    source.close()


def pack_files_of(folder: Path, train: str) -> list[Path]:
    chosen = Recipe.from_yaml(SMALL_RECIPE, "small", {"data": f"{{train: [{train}]}}"})
    return pack_files(chosen, folder / "data", folder / "pack")


def test_neither_the_files_nor_gdal_are_needed(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RECIPE)
    change = "data={train: [{files: 'fine/*.tif', mask: '../masks/{name}_mask.tif'}], validate: [b.nii.gz]}"
    arguments = [str(path), "--set", change]
    assert run_command(["pack", *arguments, "--data", str(data), "--out", str(tmp_path / "pack")]) == 0
    data.rename(tmp_path / "gone")
    script = WITHOUT.format(missing={"rasterio", "rich", "monai", "torchmetrics", "scipy"})
    command = ["train", *arguments, "--data", str(tmp_path / "pack"), "--out", str(tmp_path / "m"), "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "config.json").is_file()


def test_a_format_without_its_library_is_one_sentence(data: Path, tmp_path: Path) -> None:
    script = WITHOUT.format(missing={"rasterio"})
    command = ["upscale", str(data / "other.tif"), "-o", str(tmp_path / "o.nii"), "-m", "mri-t1-x2"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "geotiff needs rasterio, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_tells_of_a_library_that_is_not_there() -> None:
    script = WITHOUT.format(missing={"rasterio"})
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["gdal"] is None
    assert "rasterio" in found["formats"]["geotiff"]


def test_a_pack_goes_into_an_empty_folder(data: Path, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        pack_files(recipe(), data, tmp_path / "pack")
    with pytest.raises(OutputError, match="does not exist"):
        pack_files(recipe(), data, tmp_path / "none" / "pack")


def test_a_broken_pack_is_one_sentence(data: Path, tmp_path: Path) -> None:
    target = pack_files(recipe(), data, tmp_path / "pack")[0]
    (target / "image.json").write_text("{}")
    with pytest.raises(InputError, match=r"image\.json is not understood"):
        open_subjects(recipe(), tmp_path / "pack")
    (target / "image.json").unlink()
    with pytest.raises(InputError, match="no image of a pack"):
        open_subjects(recipe(), tmp_path / "pack")
