"""The local statistics that SSIM and MS-SSIM share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["WINDOW", "similarity"]

WINDOW = 11
"""Taps of the Gaussian window of sigma 1.5; windows that reach over the border do not count."""

_TAPS = [math.exp(-0.5 * ((k - WINDOW // 2) / 1.5) ** 2) for k in range(WINDOW)]
_WEIGHTS = [tap / sum(_TAPS) for tap in _TAPS]


def similarity(sr: Tensor, hr: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The luminance term and the contrast-structure term of each window.

    Shape: (B, C, *S) both to (B, C, *(S - 10)) both
    """
    if min(sr.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} voxels on each axis; the patch has {tuple(sr.shape[2:])}")
    x, y = sr.float(), hr.float()
    # Variances do not change with the mean; taking it off keeps float32's digits for them.
    level = y.mean(dim=tuple(range(2, y.ndim)), keepdim=True).detach()
    a, b = x - level, y - level
    ma, mb, maa, mbb, mab = (_blur(z) for z in (a, b, a * a, b * b, a * b))
    mx, my = ma + level, mb + level
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * (mab - ma * mb) + c2) / ((maa - ma * ma) + (mbb - mb * mb) + c2)
    return luminance, structure


def _blur(x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        length = x.shape[axis] - WINDOW + 1
        terms = [x.narrow(axis, k, length) * w for k, w in enumerate(_WEIGHTS)]
        x = torch.stack(terms).sum(0)
    return x
