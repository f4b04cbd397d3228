"""Bicubic reduction, the literature's benchmark degradation: no instrument, but what published scores are made with.

The cubic kernel is stretched by the factor, so that it filters before it samples, and centred on the coarse voxel;
beyond its border the image is mirrored. This is MATLAB's `imresize(x, 1 / factor)` on each axis.

Reference: Keys 1981, DOI 10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._axis import reduce_axis
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._noise import Noise, NoiseSetting

__all__ = ["Bicubic", "build"]


class Bicubic(Separable):
    """Antialiased cubic convolution (a = -1/2), then Gaussian noise."""

    reach: int | None = 12  # the kernel's outer three eighths at a factor of 8

    def __init__(self, noise: NoiseSetting = 0.0) -> None:
        self.ranges = ()
        self.noise = Noise.of(noise, "gaussian")

    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse."""
        return reduce_axis(x, axis, factor, _taps(factor, x.device), mirrored=True)


@lru_cache(maxsize=64)
def _taps(factor: int, device: torch.device) -> Tensor:
    """The kernel, sent to the device once.

    Shape: (1, 1, K), K the fine voxels that lie within two coarse voxels of the centre
    """
    width = 4 * factor - factor % 2
    place = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) / factor
    taps = _cubic(place.abs())
    return (taps / taps.sum()).reshape(1, 1, -1).to(device)


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0.0))


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return Bicubic(**settings)
