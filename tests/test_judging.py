"""The judge of models: which images it takes, and what it finds on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL_RECIPE

from benchmarks import _judging
from benchmarks._judging import Shown, degradations, judged, methods, shown
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.model import Model, build_network
from geomedsr.recipe import Recipe
from geomedsr.run.judgement import OWN, Judgement

HEAD = Path(__file__).parents[1] / "sample_data" / "mri_t1.nii.gz"
TABLE = """
mri:
  images:
    - {file: a.nii, about: "trained on"}
    - {file: d.nii, about: "its brother", subject: one}
    - {file: b.nii, about: "brother of one that chose", subject: one}
    - {file: e.nii, about: "another", scale: 2}
    - {file: missing.nii, about: "not there"}
  degradations:
    k-space: {name: kspace}
    average: {name: blind, blur: 0, mix: 1}
"""


def head(path: Path, start: tuple[int, int, int]) -> None:
    source = format_of(HEAD).open_source(HEAD)
    box = Box(start, tuple(a + n for a, n in zip(start, (64, 72, 8), strict=True)))
    made = Image(replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, scaling=()), source.read(box))
    sink = format_of(path).create_sink(path, replace(made.spec, dtype=np.dtype(np.float32)))
    sink.write(Box.whole(box.shape), made.voxels)
    sink.commit()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "models.yaml").write_text(TABLE)
    monkeypatch.setattr(_judging, "TABLE", tmp_path / "models.yaml")
    for number, name in enumerate("abcde"):
        head(tmp_path / "data" / f"{name}.nii", (40 + 10 * number, 60, 4 * number))
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small")
    network = build_network(recipe)
    torch.nn.init.normal_(network.get_parameter("tail.weight"), std=0.01, generator=torch.Generator().manual_seed(0))
    Model(recipe.name, network, recipe, {}, {"steps": 1}).save(tmp_path / "runs" / "small", "# small\n")
    return tmp_path / "runs" / "small"


def test_nothing_is_judged_by_what_it_was_trained_on_or_chosen_by_nor_by_its_brothers(data: Path) -> None:
    found = shown(Recipe.from_yaml(SMALL_RECIPE, "small"), data)
    assert [(one.file, one.domain) for one in found] == [("c.nii", "in"), ("e.nii", "out")]


def test_where_nothing_new_is_left_those_that_chose_the_weights_are_taken_and_told(data: Path) -> None:
    (data / "e.nii").unlink()
    found = shown(Recipe.from_yaml(SMALL_RECIPE, "small"), data)
    assert [(one.file, one.domain) for one in found] == [("c.nii", "in"), ("b.nii", "out")]
    assert found[1].about.endswith("it chose the weights")


def test_a_degradation_that_is_the_models_own_comes_once(data: Path) -> None:
    assert list(degradations(Recipe.from_yaml(SMALL_RECIPE, "small"))) == [OWN, "average"]


def test_the_tiny_model_beside_it_is_judged_along(folder: Path) -> None:
    model = Model.load(folder)
    replace(model, name="small-tiny").save(folder.parent / "small-tiny", "# tiny\n")
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "config.json").write_text("{}")
    found = methods(folder, model)
    assert found["model"] == str(folder)
    assert list(found)[-2:] == ["lanczos", "cubic"]
    assert Path(found["tiny"]).name in ("small-tiny", "mri-t1-x2-tiny")


def test_a_model_is_judged_on_every_image_in_every_way(data: Path, folder: Path) -> None:
    lines: list[str] = []
    found = judged(folder, data, precision="float32", tell=lines.append)
    assert [(row.image, row.degradation) for row in found.rows] == [
        (image, degradation) for image in ("c.nii", "e.nii") for degradation in (OWN, "average")
    ]
    assert len(lines) == 2
    assert found.sha256 == Model.load(folder).sha256
    for row in found.rows:
        assert {"model", "lanczos", "cubic"} <= set(row.scores)
        assert 15 < row.scores["cubic"]["psnr"] < 60
        assert 0 < row.scores["model"]["ssim"] < 1
    assert found.speed["input"] == [256, 256, 256]
    assert found.speed["seconds"] > 0
    assert set(found.likeness) == {"model", "cubic"}
    assert Judgement.of(json.loads(json.dumps(found.to_json())), "here") == found


def test_stored_numbers_are_brought_to_what_a_model_expects(data: Path, folder: Path) -> None:
    bench = _judging._Bench(folder, Model.load(folder), data)
    plain, axes = bench.piece(Shown("e.nii"))
    scaled, _ = bench.piece(Shown("e.nii", scale=2.0, offset=-5.0))
    np.testing.assert_allclose(scaled.voxels, 2 * plain.voxels - 5, rtol=1e-6)
    assert axes == (0, 1)
    assert plain.spec.grid.shape == (64, 72, 4)
