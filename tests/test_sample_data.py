"""The sample images are what they are said to be, and the simulation still makes them."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import rasterio

ROOT = Path(__file__).parents[1]
HEAD = ROOT / "sample_data" / "mri_t1.nii.gz"
SCENE = ROOT / "sample_data" / "scene.tif"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module("sample_data.make")


def assert_same_up_to_rounding(made: np.ndarray, kept: np.ndarray) -> None:
    # Another processor may sum in another order, which moves a value across a rounding edge now and then.
    difference = np.abs(made.astype(np.int64) - kept.astype(np.int64))
    assert made.dtype == kept.dtype
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 1e-3 * difference.size


def test_the_head_has_the_promised_geometry() -> None:
    image = nib.load(HEAD)
    assert image.shape == (192, 224, 36)
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj.slope, image.dataobj.inter) == (0.5, 0.0)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), (0.8, 0.8, 1.2), rtol=1e-6)
    qform, qcode = image.header.get_qform(coded=True)
    sform, scode = image.header.get_sform(coded=True)
    assert (qcode, scode) == (1, 1)
    np.testing.assert_allclose(qform, sform, atol=1e-4)  # the quaternion is kept in single precision
    tilt = np.degrees(np.arccos(np.abs(nib.affines.voxel_sizes(sform) ** -1 * sform[:3, :3]).max(axis=0)))
    assert tilt.min() > 9
    assert tilt.max() < 17


def test_the_head_is_made_again_by_the_simulation(make: ModuleType) -> None:
    rows, slices = range(70, 86), range(20, 22)
    made = make.head_stored(make.head_fine(make.Head(make.SEED), rows, slices), rows, slices)
    kept = np.asanyarray(nib.load(HEAD).dataobj.get_unscaled())
    assert_same_up_to_rounding(made, kept[rows.start : rows.stop, :, slices.start : slices.stop])


def test_the_head_s_header_is_made_again(make: ModuleType, tmp_path: Path) -> None:
    kept = np.asanyarray(nib.load(HEAD).dataobj.get_unscaled())
    make.write_head(tmp_path / "again.nii.gz", kept, make.head_affine())
    assert gzip.decompress((tmp_path / "again.nii.gz").read_bytes()) == gzip.decompress(HEAD.read_bytes())


def test_the_finer_head_covers_the_same_place(make: ModuleType) -> None:
    coarse, fine = make.head_affine(), make.head_affine((2, 2, 1))
    for corner in ((-0.5, -0.5, -0.5), (191.5, 223.5, 35.5)):
        finer = (np.array(corner) + 0.5) * (2, 2, 1) - 0.5
        np.testing.assert_allclose(coarse @ [*corner, 1], fine @ [*finer, 1], atol=1e-9)


def test_the_scene_has_the_promised_geometry_and_bands() -> None:
    with rasterio.open(SCENE) as file:
        assert (file.count, file.height, file.width) == (4, 400, 420)
        assert file.crs.to_epsg() == 32632
        assert file.res == (10.0, 10.0)
        assert file.dtypes == ("uint16",) * 4
        assert file.descriptions == ("B2", "B3", "B4", "B8")
        assert file.scales == (0.0001,) * 4
        assert file.offsets == (0.0,) * 4
        assert file.nodatavals == (0.0,) * 4
        masks = file.read_masks()
    assert not masks[:, 0, 0].any()
    assert masks[:, -1, -1].all()
    assert 0.02 < np.mean(masks == 0) < 0.2


def test_the_scene_is_made_again_by_the_simulation(make: ModuleType, tmp_path: Path) -> None:
    made = make.scene_stored(make.scene_seen(make.make_land(), make.SCENE_PIXEL), 1.0)
    make.write_scene(tmp_path / "again.tif", made, make.SCENE_PIXEL)
    with rasterio.open(SCENE) as kept, rasterio.open(tmp_path / "again.tif") as again:
        assert again.profile == kept.profile
        assert again.tags() == kept.tags()
        assert [again.tags(band) for band in again.indexes] == [kept.tags(band) for band in kept.indexes]
        assert again.colorinterp == kept.colorinterp
        assert_same_up_to_rounding(again.read(), kept.read())
