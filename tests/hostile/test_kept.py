"""What is warned of, and upscaled all the same: the odd thing that the input says is what the output says."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from benchmarks.hostile import geotiff, nifti
from benchmarks.hostile._case import Case
from geomedsr.cli import run_command


def out_of(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The input and the output of a case that is upscaled."""
    monkeypatch.chdir(folder)
    command = case.make(folder)
    assert isinstance(command, tuple)
    assert run_command(command) == 0
    return folder / command[1], folder / command[3]


@pytest.mark.parametrize("case", [nifti.no_forms, nifti.infinite_slope, nifti.zero_slope], ids=lambda case: case.name)
def test_a_header_keeps_its_codes_and_its_slope(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (path.read_bytes()[:348] for path in out_of(case, tmp_path, monkeypatch))
    coarse, fine = (nib.Nifti1Header(block, check=False) for block in (before, after))
    for field in ("qform_code", "sform_code", "scl_slope", "scl_inter"):
        assert coarse[field] == fine[field]


def test_a_wrong_bitpix_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, after = out_of(nifti.wrong_bitpix, tmp_path, monkeypatch)
    assert nib.load(after).header["bitpix"] == 16


def test_points_read_back_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = out_of(geotiff.points, tmp_path, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(before) as coarse, rasterio.open(after) as fine:
            assert fine.tags()["AREA_OR_POINT"] == "Point"
            for one, other in zip(coarse.gcps[0], fine.gcps[0], strict=True):
                assert (other.row, other.col) == (2 * one.row, 2 * one.col)
                assert (other.x, other.y, other.z) == (one.x, one.y, one.z)
            assert coarse.gcps[1] == fine.gcps[1]


def test_a_nodata_that_is_no_number_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = out_of(geotiff.nodata_text, tmp_path, monkeypatch)
    with rasterio.open(before) as coarse, rasterio.open(after) as fine:
        assert coarse.nodata == 0.0  # what GDAL makes of it
        assert fine.nodata is None
        assert fine.dataset_mask().all()


def test_a_nodata_beyond_the_type_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, after = out_of(geotiff.nodata_outside, tmp_path, monkeypatch)
    with rasterio.open(after) as fine:
        assert fine.dataset_mask().all()
        assert np.ptp(fine.read()) > 0


@pytest.mark.parametrize("case", [nifti.itself_by_hard_link, geotiff.its_source], ids=lambda case: case.name)
def test_an_input_is_whole_after_it_was_named_as_output(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = case.make(tmp_path)
    assert isinstance(command, tuple)
    target = tmp_path / command[3]
    whole = target.read_bytes()
    assert run_command(command) == 2
    assert target.read_bytes() == whole
