"""Every model in the package: small enough, with a complete card that says what its folder says, above cubic."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.model import Model
from geomedsr.recipe import Recipe, read_recipe
from geomedsr.run.carding import card_of
from geomedsr.run.catalogue import shipped, summary, table
from geomedsr.run.evaluating import Question, evaluate
from geomedsr.run.judgement import Judgement
from geomedsr.run.simulating import Judge

ROOT = Path(__file__).parents[1]
SAMPLES = {"mri": "mri_t1.nii.gz", "ct": "mri_t1.nii.gz", "optical": "scene.tif"}
"""There is no sample of CT: the head stands in, its values spread over those of air to bone."""

LARGEST, ALL, PICTURES = 8_000_000, 40_000_000, 2_500_000
SECTIONS = (
    "Use",
    "What it must not be used for",
    "Scores",
    "Judged on other images",
    "Calibration",
    "Failure cases",
    "Cost",
    "Curve",
    "Data",
    "Training",
)
MODELS = sorted(shipped())


def test_the_models_are_small_together() -> None:
    sizes = [path.stat().st_size for folder in shipped().values() for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) <= ALL
    pictures = [path.stat().st_size for folder in shipped().values() for path in folder.rglob("*.png")]
    assert sum(pictures) <= PICTURES


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_of_known_numbers(name: str) -> None:
    folder = shipped()[name]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LARGEST
    with safe_open(folder / "model.safetensors", "pt") as weights:
        types = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 - it is no mapping
    assert types == {{"float32": "F32", "bfloat16": "BF16"}[Model.load(folder).stored]}


@pytest.mark.parametrize("name", MODELS)
def test_a_card_is_complete_and_says_what_the_folder_says(name: str) -> None:
    folder = shipped()[name]
    model, text = Model.load(folder), (folder / "README.md").read_text(encoding="utf-8")
    assert model.name == name
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert text == card_of(model, folder)
    assert model.recipe is not None
    assert model.recipe.attribution in text
    assert model.recipe.licence
    assert model.recipe.scope.note in text
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) >= 3
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) == sorted(pictures)


@pytest.mark.parametrize("name", MODELS)
def test_a_judgement_is_of_these_weights_and_told_as_it_is(name: str) -> None:
    folder = shipped()[name]
    model, text = Model.load(folder), (folder / "README.md").read_text(encoding="utf-8")
    one = Judgement.of(model.judged["figures"], name)
    assert one.sha256 == model.sha256
    assert len(one.degradations) >= 3
    assert {row.domain for row in one.rows} == {"in", "out"}
    assert ("was it below cubic" in text) == (one.worst.gain > 0)
    assert f"{one.worst.gain:+.2f} dB" in text
    assert f"{one.worst.gain:+.2f} dB" in table([summary(name)])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_above_cubic_on_the_sample_of_its_modality(name: str, tmp_path: Path) -> None:
    model = Model.load(shipped()[name])
    path = piece(model, tmp_path)
    found = evaluate(Question(("psnr",)), judge=Judge((name,)), data=[str(path)])
    psnr = {score.method: score.values["psnr"] for score in found.scores}
    assert psnr[name] > psnr["cubic"]


def piece(model: Model, folder: Path) -> Path:
    """The middle of a sample, as a file; for a planar model a few slices of it."""
    sample = ROOT / "sample_data" / SAMPLES[model.modality]
    source = format_of(sample).open_source(sample)
    shape, planar = source.spec.grid.shape, model.task.ndim < source.spec.grid.ndim
    size = (96, 96) if len(shape) == 2 else (96, 96, 2) if planar else (48, 48, 36)
    start = tuple((n - m) // 2 for n, m in zip(shape, size, strict=True))
    box = Box(start, tuple(a + m for a, m in zip(start, size, strict=True)))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, chunks=None, scaling=())
    voxels, path = source.read(box), folder / sample.name
    made = Image(replace(spec, dtype=np.dtype(np.float32)), voxels * 1.6 - 1000 if model.modality == "ct" else voxels)
    sink = format_of(path).create_sink(path, made.spec)
    sink.write(Box.whole(size), made.voxels)
    sink.commit()
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_made_by_a_pipeline_that_is_there(name: str) -> None:
    values = json.loads((shipped()[name] / "config.json").read_text(encoding="utf-8"))["recipe"]
    made = Recipe.from_values(values, name)
    recipes = [
        read_recipe(path)
        for path in sorted((ROOT / "pipelines").glob("*.yaml"))
        if not path.name.startswith("archive") and f"name: {name}\n" in path.read_text(encoding="utf-8")
    ]
    assert len(recipes) == 1
    for key in ("factor", "channels", "degradation", "network", "losses", "data", "intensity", "seed"):
        assert getattr(recipes[0], key) == getattr(made, key), key
