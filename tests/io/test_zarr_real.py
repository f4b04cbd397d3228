"""The real stores made finer, and what others read of the outputs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import geomedsr
from geomedsr.grid import Box
from geomedsr.io import format_of
from geomedsr.io.zarr_archive import levels, open_source

pytestmark = pytest.mark.real


def real(name: str) -> Path:
    data = os.environ.get("GEOMEDSR_DATA")
    if data is None or not (Path(data) / "zarr" / name).exists():
        pytest.skip("GEOMEDSR_DATA does not point to the real images")
    return Path(data) / "zarr" / name


def test_a_template_in_ome_zarr_is_made_finer(tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed")
    path = real("mni152_trim.ome.zarr")
    before, step = open_source(path).spec, 2.949852466583252
    geomedsr.upscale(path, tmp_path / "fine.zarr", "cubic", scale=(2,))
    after = open_source(tmp_path / "fine.zarr").spec
    assert after.grid == before.grid.upscaled((2, 2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = models.open_ome_zarr(zarr.open_group(str(tmp_path / "fine.zarr"), mode="r"))
    assert type(model).__module__ == "ome_zarr_models.v04.image"
    scale, translation = model.attributes.multiscales[0].datasets[0].coordinateTransformations
    assert scale.scale == [step / 2] * 3
    np.testing.assert_allclose(
        translation.translation, np.array([-70.65634042, -109.65634042, -74.65634042]) - step / 4, atol=1e-6
    )


def test_a_sentinel_2_product_is_made_finer(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    pytest.importorskip("odc.geo.xr", reason="odc-geo is not installed")
    path = real("S2C_MSIL2A_T32TQM_geozarr_trim.zarr")
    reflectance = path / "measurements" / "reflectance"
    assert levels(reflectance) == tuple(reflectance / name for name in ("r120m", "r360m", "r720m"))
    geomedsr.upscale(path, tmp_path / "fine.zarr", "nearest", scale=(2,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fine = xarray.open_zarr(tmp_path / "fine.zarr", decode_coords="all")
        coarse = xarray.open_zarr(reflectance / "r120m", consolidated=False)
        assert list(fine.data_vars) == ["b02", "b03", "b04"]
        for image in fine.data_vars.values():
            assert image.rio.crs.to_epsg() == image.odc.crs.epsg == 32632
            expected = (60.0, 0.0, 699960.0, 0.0, -60.0, 4700040.0)
            assert tuple(image.rio.transform())[:6] == tuple(image.odc.transform)[:6] == expected
            assert image.attrs["long_name"].startswith("BOA reflectance")
            np.testing.assert_array_equal(image[::2, 1::2].values, coarse[image.name].values)


def test_a_scan_goes_to_zarr_and_back(tmp_path: Path) -> None:
    path = real("mni152_trim.ome.zarr").parents[1] / "mri" / "small" / "msd_hippocampus_001.nii.gz"
    geomedsr.upscale(path, tmp_path / "fine.nii.gz", "nearest", scale=(2,))
    geomedsr.upscale(path, tmp_path / "fine.zarr", "nearest", scale=(2,))
    source = open_source(tmp_path / "fine.zarr")
    sink = format_of(path).create_sink(tmp_path / "back.nii.gz", source.spec)
    sink.write(Box.whole(source.spec.grid.shape), source.read(Box.whole(source.spec.grid.shape)))
    sink.commit()
    assert (tmp_path / "back.nii.gz").read_bytes() == (tmp_path / "fine.nii.gz").read_bytes()
