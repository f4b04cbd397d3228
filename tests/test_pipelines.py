"""Every pipeline of the folder: trains a few steps on the sample data, and its model makes a checked file; or runs a
model over a small archive.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from geomedsr.cli import run_command
from geomedsr.grid import Box, Factor
from geomedsr.image import Source
from geomedsr.io import format_of, suffix_of
from geomedsr.model import build_network
from geomedsr.pipeline import read_pipeline
from geomedsr.recipe import Recipe, read_recipe
from geomedsr.run.catalogue import summary
from geomedsr.run.training import train_files

ROOT = Path(__file__).parent.parent
SAMPLES = {"mri": "mri_t1.nii.gz", "ct": "mri_t1.nii.gz", "optical": "scene.tif"}
"""There is no sample of CT: the head stands in, its values being much those of soft tissue and bone in HU."""

SMALL = {"width": 8, "blocks": 1, "depth": 1, "growth": 4}
FEW = {"steps": 1, "warmup": 0, "validate_every": 1}
ALL = sorted((ROOT / "pipelines").glob("*.yaml"))
ARCHIVES = [path for path in ALL if "inputs" in yaml.safe_load(path.read_text(encoding="utf-8"))]
"""Those that run a model over an archive; the others train one."""

PIPELINES = [path for path in ALL if path not in ARCHIVES]


def small(recipe: Recipe, sample: Path) -> dict[str, Any]:
    """What makes a pipeline train in a second: all else stays as it is, the losses and their critics included."""
    bands = list(recipe.channels) if len(recipe.channels) > 1 else None
    changes: dict[str, Any] = {
        "start": None,  # its network is larger than the one here
        "data": {"train": [{"files": sample.name, "bands": bands}]},
        "schedule": FEW,
        "sampling.patch": [8 * f if f > 1 else 8 for f in recipe.factor] if len(recipe.factor) == 3 else [32, 32],
        "sampling.batch": 2,
    }
    changes |= {f"network.{key}": value for key, value in SMALL.items() if key in recipe.network.settings}
    return changes | {f"then.{number}.schedule": FEW for number in range(len(recipe.then))}


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_trains_and_upscales(pipeline: Path, tmp_path: Path) -> None:
    recipe = read_recipe(pipeline)
    sample = ROOT / "sample_data" / SAMPLES[recipe.modality]
    changes = small(recipe, sample)
    arguments = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    model, image, output = tmp_path / "model", crop(sample, tmp_path), tmp_path / f"fine_{sample.name}"
    assert run_command(["train", str(pipeline), "--data", str(sample.parent), "--out", str(model), *arguments]) == 0
    assert run_command(["upscale", str(image), "-o", str(output), "-m", str(model)]) == 0
    before, after = (format_of(path).open_source(path) for path in (image, output))
    assert after.spec.grid.same_place(before.spec.grid)
    factor = (*recipe.factor, *[1] * (before.spec.grid.ndim - len(recipe.factor)))
    assert after.spec.grid.ratio_to(before.spec.grid) == factor
    assert after.spec.dtype == before.spec.dtype
    assert after.spec.channels == before.spec.channels
    check_values(before, after, factor)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_gives_the_same_weights_again(pipeline: Path, tmp_path: Path) -> None:
    recipe = read_recipe(pipeline)
    sample = ROOT / "sample_data" / SAMPLES[recipe.modality]
    few = {"steps": 3, "warmup": 1, "validate_every": 3}
    changes = small(recipe, sample) | {"schedule": few}
    changes |= {f"then.{number}.schedule": few for number in range(len(recipe.then))}
    shorter = read_recipe(pipeline, {key: json.dumps(value) for key, value in changes.items()})
    made = [train_files(shorter, sample.parent, tmp_path / turn, quiet=True).network for turn in ("one", "two")]
    weights, again = (network.state_dict() for network in made)
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    untrained = build_network(shorter).for_inference().state_dict()
    assert any(not torch.equal(weights[key], untrained[key]) for key in weights)


def crop(sample: Path, folder: Path) -> Path:
    """The middle of a sample, as a file of the same kind."""
    source = format_of(sample).open_source(sample)
    shape = source.spec.grid.shape
    start = tuple((n - min(n, 32)) // 2 for n in shape)
    box = Box(start, tuple(a + min(n, 32) for a, n in zip(start, shape, strict=True)))
    path = folder / sample.name
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, chunks=None)
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(box.shape), source.read(box))
    sink.commit()
    return path


def check_values(before: Source, after: Source, factor: Factor) -> None:
    """The output is the input, finer: averaged over each coarse voxel it is nearly what it was, and it is no copy."""
    lr, sr = (source.read(Box.whole(source.spec.grid.shape)) for source in (before, after))
    assert np.isfinite(sr).all() == np.isfinite(lr).all()
    pairs = [size for n, f in zip(lr.shape[1:], factor, strict=True) for size in (n, f)]
    averaged = sr.reshape(lr.shape[0], *pairs).mean(axis=tuple(range(2, 2 + 2 * len(factor), 2)))
    valid = np.isfinite(lr) & np.isfinite(averaged)
    assert np.corrcoef(lr[valid], averaged[valid])[0, 1] > 0.95
    assert sr.std() > 0


@pytest.mark.parametrize("pipeline", ARCHIVES, ids=lambda path: path.stem)
def test_a_pipeline_runs_over_an_archive(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = read_pipeline(pipeline)
    sample = ROOT / "sample_data" / SAMPLES[str(summary(read.model).modality)]
    folder = tmp_path / read.inputs[0].split("/")[0]  # type: ignore[union-attr]
    (folder / "deep").mkdir(parents=True)
    one, other = crop(sample, folder), crop(sample, folder / "deep")
    assert run_command(["run", str(pipeline), "-q"]) == 0
    for image in (one, other):
        suffix = suffix_of(image)
        name = read.output.name.format(name=str(image.relative_to(folder)).removesuffix(suffix or ""))
        before = format_of(image).open_source(image)
        after = format_of(Path(f"fine/{name}.zarr")).open_source(Path(f"fine/{name}.zarr"))
        assert after.spec.grid.same_place(before.spec.grid)
        check_values(before, after, after.spec.grid.ratio_to(before.spec.grid))
    assert not (tmp_path / "fine" / ".geomedsr-job").exists()


@pytest.mark.parametrize("pipeline", ARCHIVES, ids=lambda path: path.stem)
def test_a_pipeline_over_an_archive_reads_aloud(pipeline: Path) -> None:
    text = pipeline.read_text(encoding="utf-8")
    assert f"geomedsr run pipelines/{pipeline.name}" in text
    assert "the same command goes on" in text
    assert read_pipeline(pipeline).about


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_reads_aloud(pipeline: Path) -> None:
    text = pipeline.read_text(encoding="utf-8")
    assert "Expected:" in text, "a pipeline says what score to expect, and after how long"
    recipe = read_recipe(pipeline)
    assert recipe.name.replace("-", "")
    assert recipe.about
    assert recipe.attribution
    assert recipe.scope.note
