"""A coarser sensor: a Gaussian point spread, then the average over each coarse voxel's area.

The Gaussian is as wide as makes the whole chain's modulation transfer function (MTF) equal to `mtf` at the coarse
grid's Nyquist frequency, the one figure that space agencies publish.

Reference: Aiazzi et al. 2006, "MTF-tailored multiscale fusion", DOI 10.14358/PERS.72.5.591
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations import _noise
from geomedsr.degradations._degradation import Degradation, filter_axis, gaussian_taps
from geomedsr.grid import Factor

__all__ = ["Sensor", "build", "gaussian_sigma"]


@lru_cache(maxsize=256)
def gaussian_sigma(mtf: float, factor: int) -> float:
    """The Gaussian's standard deviation, in fine voxels, that brings a box of `factor` voxels down to `mtf`.

    Found by bisection on the sampled kernel's own response, which at small sigma is not the continuous one's.

    Example:
        >>> round(gaussian_sigma(0.3, 2), 3)
        0.834
    """
    nyquist = 1 / (2 * factor)
    box = 1.0 / (factor * math.sin(math.pi * nyquist))
    low, high = 0.05, 4.0 * factor
    for _ in range(60):
        middle = (low + high) / 2
        taps = gaussian_taps(middle)
        radius = len(taps) // 2
        response = sum(t * math.cos(2 * math.pi * nyquist * (k - radius)) for k, t in enumerate(taps))
        low, high = (middle, high) if response * box > mtf else (low, middle)
    return low


class Sensor:
    """Gaussian MTF, area average, Gaussian noise; `mtf` is one value, or one for each channel."""

    def __init__(self, mtf: float | Sequence[float] = 0.3, noise: float = 0.0) -> None:
        values = [float(mtf)] if isinstance(mtf, int | float) else [float(value) for value in mtf]
        if not all(0.01 <= value < 1 for value in values) or noise < 0:
            raise ValueError(f"mtf is between 0.01 and 1, noise at least 0; got {mtf} and {noise}")
        self.mtf = values
        self.noise = noise
        # Wide enough for the factors in use (up to 8); a wider margin costs little.
        self.reach: int | None = 8 * math.ceil(4 * gaussian_sigma(min(values), 8) / 8)

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch."""
        channels = hr.shape[1]
        if len(self.mtf) not in (1, channels):
            raise ValueError(f"mtf has {len(self.mtf)} values for {channels} channels")
        lr = hr.float()
        for axis, f in enumerate(factor, start=2):
            if f > 1:
                lr = filter_axis(lr, axis, self._taps(f, channels))
                lr = lr.reshape(*lr.shape[:axis], -1, f, *lr.shape[axis + 1 :]).mean(axis + 1)
        return _noise.gaussian(lr, self.noise, rng)

    def _taps(self, factor: int, channels: int) -> Tensor:
        kernels = [gaussian_taps(gaussian_sigma(mtf, factor)) for mtf in self.mtf]
        width = max(len(kernel) for kernel in kernels)
        padded = [[0.0] * ((width - len(k)) // 2) + k + [0.0] * ((width - len(k)) // 2) for k in kernels]
        return torch.tensor(padded * (channels // len(padded)))


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return Sensor(**settings)
