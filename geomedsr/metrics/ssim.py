"""Structural similarity: luminance, contrast and structure in a Gaussian window, averaged over the image.

torchmetrics has it, too, but averages windows that hang over the border (filled by reflection); these here are
scikit-image's, which lie wholly inside.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "WINDOW", "measure", "similarity", "ssim"]

LABEL, UNITS = "SSIM", ""
BETTER: Better = "higher"

WINDOW = 11


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
    if min(x.shape[1:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} voxels on each axis; the image has {tuple(x.shape[1:])}.")
    luminance, structure = similarity(x, y, data_range)
    return float((luminance * structure).nanmean())


def similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The luminance, and contrast times structure, of each window.

    Shape: (C, *S) both to (C, *(S - 10))
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my, mxx, myy, mxy = (_blur(z) for z in (x, y, x * x, y * y, x * y))
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    return luminance, structure


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None where no valid window fits."""
    if min(pair.masked[0].shape[1:]) < WINDOW:
        return None
    found = ssim(pair.sr, pair.hr, pair.data_range)
    return None if np.isnan(found) else found


def _flat(a: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(axis for axis in range(1, a.ndim) if a.shape[axis] == 1) if a.ndim > 3 else ()


def _blur(x: Tensor) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=x.dtype) / 1.5) ** 2)
    taps = taps / taps.sum()
    for axis in range(1, x.ndim):
        length = x.shape[axis] - 10
        x = sum((x.narrow(axis, k, length) * tap for k, tap in enumerate(taps)), torch.zeros(()))
    return x
