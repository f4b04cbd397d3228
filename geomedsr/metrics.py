"""How close two images are. The data range is always given, invalid voxels (NaN) never count."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["psnr", "ssim"]


def psnr(sr: NDArray[np.float32], hr: NDArray[np.float32], data_range: float) -> float:
    """Peak signal-to-noise ratio.

    Shape: (C, *S) both
    Units: dB

    Example:
        >>> a = np.zeros((1, 8, 8), np.float32)
        >>> round(psnr(a, a + 0.1, data_range=1.0), 3)
        20.0
    """
    difference = sr.astype(np.float64) - hr
    error = float(np.mean(np.square(difference[np.isfinite(difference)])))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(sr: NDArray[np.float32], hr: NDArray[np.float32], data_range: float) -> float:
    """Structural similarity with a Gaussian window of sigma 1.5 and 11 taps, each channel alone, then averaged.

    Equal to `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`:
    only windows that lie wholly inside the image count, and only those without an invalid voxel. On (C, 1, *S) or
    (C, *S, 1) the flat axis is left out.

    Shape: (C, *S) both, S of 2 or 3 axes
    Reference: Wang et al. 2004, DOI 10.1109/TIP.2003.819861
    """
    # Double precision: local variances are differences of nearly equal numbers.
    x, y = (torch.from_numpy(np.squeeze(a, _flat(a)).astype(np.float64)) for a in (sr, hr))
    if min(x.shape[1:]) < 11:
        raise ValueError(f"SSIM needs at least 11 voxels on each axis; the image has {tuple(x.shape[1:])}.")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my, mxx, myy, mxy = (_blur(z) for z in (x, y, x * x, y * y, x * y))
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    return float((luminance * structure).nanmean())


def _flat(a: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(axis for axis in range(1, a.ndim) if a.shape[axis] == 1) if a.ndim > 3 else ()


def _blur(x: Tensor) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=x.dtype) / 1.5) ** 2)
    taps = taps / taps.sum()
    for axis in range(1, x.ndim):
        length = x.shape[axis] - 10
        x = sum((x.narrow(axis, k, length) * tap for k, tap in enumerate(taps)), torch.zeros(()))
    return x
