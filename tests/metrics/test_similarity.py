"""PSNR and SSIM against scikit-image, and what invalid voxels do."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from geomedsr.metrics import psnr, ssim


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    hr = rng.random(shape, np.float32)
    return (hr + 0.1 * rng.standard_normal(shape)).astype(np.float32), hr


@pytest.mark.parametrize("shape", [(1, 30, 40), (3, 25, 31), (1, 20, 22, 24), (2, 16, 17, 18)])
def test_equal_to_scikit_image(shape: tuple[int, ...]) -> None:
    sr, hr = pair(shape)
    theirs = structural_similarity(
        sr, hr, data_range=1.3, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=0
    )
    assert ssim(sr, hr, 1.3) == pytest.approx(theirs, abs=1e-6)
    assert psnr(sr, hr, 1.3) == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=1.3), abs=1e-6)


def test_invalid_voxels_do_not_count() -> None:
    sr, hr = pair((1, 40, 40))
    broken = sr.copy()
    broken[:, :, 20:] = np.nan
    assert psnr(broken, hr, 1.0) == pytest.approx(psnr(sr[..., :20], hr[..., :20], 1.0))
    assert ssim(broken, hr, 1.0) == pytest.approx(ssim(sr[..., :20], hr[..., :20], 1.0))


def test_equal_images_are_perfect() -> None:
    _, hr = pair((1, 16, 16))
    assert psnr(hr, hr, 1.0) == float("inf")
    assert ssim(hr, hr, 1.0) == pytest.approx(1.0)


def test_a_flat_axis_is_left_out() -> None:
    sr, hr = pair((1, 20, 20, 1))
    assert ssim(sr, hr, 1.0) == pytest.approx(ssim(sr[..., 0], hr[..., 0], 1.0))


def test_too_small_for_a_window() -> None:
    sr, hr = pair((1, 8, 8))
    with pytest.raises(ValueError, match="11 voxels"):
        ssim(sr, hr, 1.0)
