"""Of several resolutions, the finest that a model was trained on is made finer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geomedsr.cli import run_command
from geomedsr.grid import Box, Grid
from geomedsr.image import Image
from geomedsr.io import format_of, levels_of


def pyramid(path: Path, spacing: float) -> Path:
    """An OME-Zarr of 96 x 96 x 8 voxels and, in a coarser level, of half as many within the slices."""
    plain = Grid.plain((96, 96, 8))
    grid = replace(plain, affine=np.diag([spacing, spacing, 4 * spacing, 1.0]), units="mm")
    image = Image.of(np.random.default_rng(0).random((1, 96, 96, 8)) * 900, grid)
    sink = format_of(path).create_sink(path, image.spec, {"layout": "ome"})
    sink.write(Box.whole(grid.shape), image.voxels)
    sink.commit()
    return path


@pytest.mark.parametrize(("spacing", "shape"), [(1.0, (192, 192, 8)), (0.5, (96, 96, 8)), (0.1, (192, 192, 8))])
def test_the_finest_that_fits_is_taken(
    spacing: float, shape: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = pyramid(tmp_path / "in.zarr", spacing), tmp_path / "out.zarr"
    assert len(levels_of(source)) == 2
    assert run_command(["upscale", str(source), "-o", str(out), "-m", "mri-t1-x2"]) == 0
    assert format_of(out).open_source(out).spec.grid.shape == shape
    said = capsys.readouterr().err
    assert ("Of the 2 resolutions of in.zarr, 1 is the finest that mri-t1-x2 was trained on" in said) == (
        spacing == 0.5
    )
    assert ("judge its result with care" in said) == (spacing == 0.1)


def test_an_interpolation_takes_the_finest(tmp_path: Path) -> None:
    source, out = pyramid(tmp_path / "in.zarr", 0.5), tmp_path / "out.zarr"
    assert run_command(["upscale", str(source), "-o", str(out), "-m", "linear", "--scale", "2,2,1"]) == 0
    assert format_of(out).open_source(out).spec.grid.shape == (192, 192, 8)
