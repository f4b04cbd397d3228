"""Every pipeline of the folder: trains a few steps on the sample data, and its model makes a checked file."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomedsr.cli import run_command
from geomedsr.io import format_of
from geomedsr.recipe import read_recipe

ROOT = Path(__file__).parent.parent
SAMPLES = {"mri": "mri_t1.nii.gz", "optical": "scene.tif"}


@pytest.mark.parametrize("pipeline", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_pipeline_trains_and_upscales(pipeline: Path, tmp_path: Path) -> None:
    recipe = read_recipe(pipeline)
    sample = ROOT / "sample_data" / SAMPLES[recipe.modality]
    bands = list(recipe.channels) if len(recipe.channels) > 1 else "null"
    patch = [16 * f for f in recipe.factor]
    changes = {
        "data": f"{{train: [{{files: {sample.name}, bands: {bands}}}]}}",
        "schedule": "{steps: 2, warmup: 1}",
        "network.width": "8",
        "network.blocks": "1",
        "sampling.patch": str(patch),
        "sampling.batch": "2",
    }
    arguments = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    model, output = tmp_path / "model", tmp_path / sample.name
    assert run_command(["train", str(pipeline), "--data", str(sample.parent), "--out", str(model), *arguments]) == 0
    assert run_command(["upscale", str(sample), "-o", str(output), "-m", str(model)]) == 0
    before, after = (format_of(path).open_source(path).spec for path in (sample, output))
    assert after.grid.same_place(before.grid)
    assert after.grid.ratio_to(before.grid)[:2] == recipe.factor[:2]
    assert after.dtype == before.dtype


@pytest.mark.parametrize("pipeline", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_pipeline_reads_aloud(pipeline: Path) -> None:
    text = pipeline.read_text(encoding="utf-8")
    assert "Expected:" in text, "a pipeline says what score to expect, and after how long"
    recipe = read_recipe(pipeline)
    assert recipe.name.replace("-", "")
    assert recipe.about
    assert recipe.attribution
    assert recipe.scope.note
