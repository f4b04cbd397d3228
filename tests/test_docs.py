"""The examples in the guides give what the guides say, and their links lead somewhere."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from geomedsr.cli import run_command
from geomedsr.data.sampling import PatchSampler
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Voxels
from geomedsr.io import format_of
from geomedsr.recipe import Recipe
from geomedsr.run.training import open_subjects

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_there_are_pages() -> None:
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_give_what_it_says(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`([a-z_/]+(?:\.py|/))`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / "geomedsr" / name).exists()] == []


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["networks.md", "losses.md"])
def test_the_reference_says_what_the_code_says(page: str) -> None:
    written = reference().PAGES[page]() + "\n"
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == written, "write it anew: python -m docs.make"


SCAN = (64, 72, 4)
SMALL = ["--set", "network.width=8", "--set", "network.blocks=1", "--set", "sampling.patch=[32, 32]"]
FEW = ["--set", "schedule.steps=2", "--set", "schedule.validate_every=1"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)


def write_scans(folder: Path) -> None:
    """Three persons' scans, each a piece of the sample's head, with the masks and coarse images that the page names."""
    head = format_of(ROOT / "sample_data/mri_t1.nii.gz").open_source(ROOT / "sample_data/mri_t1.nii.gz")
    for number in range(3):
        start = (64, 4 + SCAN[1] * number, 16)
        box = Box(start, tuple(a + n for a, n in zip(start, SCAN, strict=True)))
        voxels, grid, name = head.read(box), head.spec.grid.cropped(box), f"sub-0{number + 1}"
        write(folder / f"{name}_T1w.nii.gz", voxels, grid)
        write(folder / "masks" / f"{name}_brain.nii.gz", (voxels > 100).astype(np.float32), grid)
        coarse = voxels.reshape(1, SCAN[0] // 2, 2, SCAN[1] // 2, 2, SCAN[2]).mean(axis=(2, 4))
        write(folder / "fast" / f"{name}_T1w.nii.gz", coarse, grid.downscaled((2, 2, 1)))


def write(path: Path, voxels: Voxels, grid: Grid) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.of(voxels, grid)
    sink = format_of(path).create_sink(path, image.spec)
    sink.write(Box.whole(grid.shape), image.voxels)
    sink.commit()


def test_the_page_on_training_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scans(tmp_path / "scans")
    recipe, *fragments = blocks("train.md", "yaml")
    (tmp_path / "my_scans.yaml").write_text(recipe, encoding="utf-8")
    for line in "".join(blocks("train.md", "sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "geomedsr"
        if arguments[0] == "train":
            arguments += [*(SMALL[2:] if "network.width=48" in arguments else SMALL), *FEW]
        assert run_command(arguments) == 0, line
    fine = format_of(Path("fine.nii.gz")).open_source(Path("fine.nii.gz")).spec.grid
    assert fine.shape == (2 * SCAN[0], 2 * SCAN[1], SCAN[2])
    for fragment in fragments:
        changed = Recipe.from_values({**yaml.safe_load(recipe), **yaml.safe_load(fragment)}, "the page")
        subjects = open_subjects(changed, tmp_path / "scans")
        sampling = changed.sampling
        patches = PatchSampler(
            subjects.train, (32, 32), (2, 2), 0, 0, candidates=sampling.candidates, inside=sampling.inside
        )
        assert patches.draw(np.random.default_rng(0)).inner.shape == (32, 32)


def write_archive(folder: Path) -> None:
    """The scenes, the table and the items that the page on archives names: pieces of the sample scene."""
    sample = ROOT / "sample_data/scene.tif"
    source = format_of(sample).open_source(sample)
    places = {"scenes/a.tif": 0, "scenes/b.tif": 64, "c.tif": 128, "d.tif": 192}
    for name, start in {**places, "scene.zarr": 32}.items():
        box, path = Box((start, 0), (start + 48, 64)), folder / name
        path.parent.mkdir(exist_ok=True)
        spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, chunks=None)
        sink = format_of(path).create_sink(path, spec)
        sink.write(Box.whole(box.shape), source.read(box))
        sink.commit()
    (folder / "more.csv").write_text("path,date\nc.tif,2020-01-01\n", encoding="utf-8")
    item = {"type": "Feature", "id": "d", "assets": {"data": {"href": "./d.tif"}, "thumbnail": {"href": "none.png"}}}
    (folder / "items.json").write_text(json.dumps(item), encoding="utf-8")


def test_the_page_on_archives_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path)
    (pipeline,) = blocks("archives.md", "yaml")
    (tmp_path / "scenes.yaml").write_text(pipeline, encoding="utf-8")
    for line in "".join(blocks("archives.md", "sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "geomedsr"
        assert run_command([*arguments, "-q"]) == 0, line
    names = ["a_x2.zarr", "b_x2.zarr", "c_x2.zarr", "d_x2.zarr"]
    assert sorted(path.name for path in Path("fine").iterdir()) == names
    assert sorted(path.name for path in Path("shared").iterdir()) == names
    for name in ("a", "b"):
        before, after = (format_of(Path(one)) for one in (f"scenes/{name}.tif", f"back/{name}_x2.tif"))
        was, is_ = before.open_source(Path(f"scenes/{name}.tif")), after.open_source(Path(f"back/{name}_x2.tif"))
        assert is_.spec.grid == was.spec.grid
        whole = Box.whole(was.spec.grid.shape)
        np.testing.assert_array_equal(is_.read(whole), was.read(whole))


def test_the_page_on_clusters_names_options_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path)
    (line,) = "".join(blocks("cluster.md", "sh")).splitlines()
    assert run_command([*shlex.split(line)[1:], "--dry-run", "-q"]) == 0
