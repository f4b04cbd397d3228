"""Structural similarity: luminance, contrast and structure in a Gaussian window, averaged over the image.

torchmetrics has it, too, but averages windows that hang over the border (filled by reflection); these here are
scikit-image's, which lie wholly inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "WINDOW", "mean_similarity", "measure", "similarity", "ssim"]

LABEL, UNITS = "SSIM", ""
BETTER: Better = "higher"

WINDOW = 11

_WEIGHTS = [math.exp(-0.5 * ((k - WINDOW // 2) / 1.5) ** 2) for k in range(WINDOW)]
_TAPS = [weight / sum(_WEIGHTS) for weight in _WEIGHTS]

_CACHED = 1 << 15
"""How many voxels each thread filters at a time."""


def ssim(sr: NDArray[np.float32], hr: NDArray[np.float32], data_range: float) -> float:
    """Structural similarity with a Gaussian window of sigma 1.5 and 11 taps, each channel alone, then averaged.

    Equal to `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`:
    only windows that lie wholly inside the image count, and only those without an invalid voxel. On (C, 1, *S) or
    (C, *S, 1) the flat axis is left out.

    Shape: (C, *S) both, S of 2 or 3 axes
    Reference: Wang et al. 2004, DOI 10.1109/TIP.2003.819861
    """
    x, y = (torch.from_numpy(np.squeeze(a, _flat(a))) for a in (sr, hr))
    return mean_similarity(x, y, data_range)


def mean_similarity(x: Tensor, y: Tensor, data_range: float) -> float:
    """Structural similarity of tensors, computed on the device where both are.

    Shape: (C, *S) both
    """
    if min(x.shape[1:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} voxels on each axis; the image has {tuple(x.shape[1:])}.")
    # Double precision: local variances are differences of nearly equal numbers.
    luminance, structure = similarity(x.double(), y.double(), data_range)
    return float(luminance.mul_(structure).nanmean())


def similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The luminance, and contrast times structure, of each window.

    Shape: (C, *S) both to (C, *(S - 10))
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my, squares, product = (_blur(z) for z in (x, y, x * x + y * y, x * y))
    means, mean = mx.square().add_(my.square()), mx.mul_(my)
    # In place: of a volume each of these is as large as all that is given.
    structure = product.sub_(mean).mul_(2).add_(c2).div_(squares.sub_(means).add_(c2))
    return mean.mul_(2).add_(c1).div_(means.add_(c1)), structure


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None where no valid window fits."""
    if min(pair.masked[0].shape[1:]) < WINDOW:
        return None
    found = ssim(pair.sr, pair.hr, pair.data_range)
    return None if np.isnan(found) else found


def _flat(a: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(axis for axis in range(1, a.ndim) if a.shape[axis] == 1) if a.ndim > 3 else ()


def _blur(x: Tensor) -> Tensor:
    for axis in range(1, x.ndim):
        length = x.shape[axis] - WINDOW + 1
        found = x.new_empty(*x.shape[:axis], length, *x.shape[axis + 1 :])
        across = 1 if axis > 1 else 2
        for part, total in zip(*(_parts(one, across, x) for one in (x, found)), strict=True):
            torch.mul(part.narrow(axis, 0, length), _TAPS[0], out=total)
            for k, tap in enumerate(_TAPS[1:], start=1):
                total.add_(part.narrow(axis, k, length), alpha=tap)
        x = found
    return x


def _parts(x: Tensor, axis: int, like: Tensor) -> tuple[Tensor, ...]:
    """Parts of an image that a processor's cache holds; a GPU takes it whole."""
    if x.device.type != "cpu":
        return (x,)
    row = like.numel() // like.shape[axis]
    return torch.split(x, max(_CACHED * torch.get_num_threads() // row, 1), axis)
