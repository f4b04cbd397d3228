"""What every degradation is, and the axis-wise tools that they share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from geomedsr.grid import Factor

__all__ = ["Degradation", "filter_axis", "gaussian_taps"]


class Degradation(Protocol):
    """A fine batch to the coarse one that an instrument would give.

    Coarse voxel i covers the fine voxels [f i, f i + f): nothing is shifted. `reach` is how many fine voxels beyond
    those it looks at (None: at the whole axis, so whole images are degraded rather than patches).
    """

    reach: int | None

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch.

        Shape: (B, C, *S) to (B, C, *(S / factor))
        """
        ...


def gaussian_taps(sigma: float) -> list[float]:
    """A Gaussian kernel of an odd number of taps that sum to 1, cut at four sigma."""
    radius = max(1, round(4 * sigma + 0.5))
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (place / sigma) ** 2)
    return [float(tap) for tap in taps / taps.sum()]


def filter_axis(x: Tensor, axis: int, taps: Tensor) -> Tensor:
    """Each channel filtered along one axis, with the border voxels repeated outwards.

    Shape: x (B, C, *S); taps (C, K), K odd
    """
    radius = taps.shape[1] // 2
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    repeat = [-1] * x.ndim
    repeat[axis] = radius
    padded = torch.cat([first.expand(repeat), x, last.expand(repeat)], axis)
    weights = taps.to(x).reshape(1, taps.shape[0], *[1] * (x.ndim - 2), taps.shape[1])
    total = torch.zeros_like(x)
    for k in range(taps.shape[1]):
        total += padded.narrow(axis, k, x.shape[axis]) * weights[..., k]
    return total
