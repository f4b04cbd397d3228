"""Small pairs of images on the disk, and what a page of them holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.cli import run_command
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Voxels
from geomedsr.io import format_of

UTM = "EPSG:32632"


def write(path: Path, image: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = format_of(path).create_sink(path, image.spec)
    sink.write(Box.whole(image.spec.grid.shape), image.voxels)
    sink.commit()
    return path


def shapes(shape: tuple[int, ...], seed: int = 0) -> Voxels:
    """Random boxes on a plain ground, with some noise: edges, and a spectrum that falls."""
    rng = np.random.default_rng(seed)
    voxels = np.zeros(shape, np.float32)
    for _ in range(60):
        start = [int(rng.integers(0, n - 3)) for n in shape[1:]]
        box = tuple(slice(a, a + int(rng.integers(3, 14))) for a in start)
        voxels[(slice(None), *box)] += rng.uniform(50, 400, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32)
    return voxels + rng.normal(0, 3, shape).astype(np.float32)


def block_means(voxels: Voxels, factor: tuple[int, ...]) -> Voxels:
    split = [voxels.shape[0]]
    for length, f in zip(voxels.shape[1:], factor, strict=True):
        split += [length // f, f]
    return np.asarray(voxels.reshape(split).mean(tuple(range(2, len(split), 2))), dtype=np.float32)


def scene_grid(shape: tuple[int, int], spacing: float = 10.0) -> Grid:
    return Grid.of(shape, np.array([[0, spacing, 600000], [-spacing, 0, 5400000], [0, 0, 1]]), UTM, "m")


def raster_pair(
    folder: Path, names: tuple[str, ...] = ("B2", "B3", "B4", "B8"), size: tuple[int, int] = (48, 64), seed: int = 0
) -> tuple[Path, Path]:
    """A coarse scene and a finer one of the same place."""
    fine = Image.of(shapes((len(names), 2 * size[0], 2 * size[1]), seed), scene_grid(size).upscaled((2, 2)))
    fine = Image(replace(fine.spec, channels=names), fine.voxels)
    coarse = Image(replace(fine.spec, grid=scene_grid(size)), block_means(fine.voxels, (2, 2)))
    return write(folder / "scene.tif", coarse), write(folder / "scene_fine.tif", fine)


def volume_pair(folder: Path, size: tuple[int, int, int] = (24, 28, 12)) -> tuple[Path, Path]:
    """A coarse scan and a finer one; the first axis runs to the left, and the patient's right front is bright."""
    grid = Grid.of(size, np.diag([-1.0, 1.0, 2.0, 1.0]), units="mm")
    voxels = shapes((1, 2 * size[0], 2 * size[1], size[2]))
    voxels[0, : size[0] - 4, size[1] + 4 :] += 1500
    fine = Image.of(voxels, grid.upscaled((2, 2, 1)))
    coarse = Image(replace(fine.spec, grid=grid), block_means(fine.voxels, (2, 2, 1)))
    return write(folder / "scan.nii.gz", coarse), write(folder / "scan_fine.nii.gz", fine)


def report(*arguments: object) -> int:
    return run_command(["report", *map(str, arguments), "-q"])


def viewer_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data
