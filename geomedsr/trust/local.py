"""Statistics of a voxel's neighbourhood, computed so that a tile gives the bits of the whole image."""

from __future__ import annotations

import torch
from torch import Tensor

from geomedsr.degradations._axis import filter_axis, gaussian_taps
from geomedsr.grid import Factor, Shape

__all__ = ["activity", "blurred", "gradient", "looks", "power"]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """The batch under a Gaussian of `sigma` voxels on every axis, its border voxels repeated outwards."""
    taps = torch.tensor(gaussian_taps(sigma)).reshape(1, 1, -1)
    for axis in range(2, x.ndim):
        x = filter_axis(x, axis, taps)
    return x


def power(x: Tensor, sigma: float) -> Tensor:
    """The root of the local mean square."""
    return blurred(x.square(), sigma).sqrt()


def activity(x: Tensor, sigma: float) -> Tensor:
    """The root mean square of what differs from the neighbourhood's mean."""
    return power(x - blurred(x, sigma), sigma)


def gradient(x: Tensor, sigma: float) -> Tensor:
    """The root mean square length of the gradient, by central differences, in values a voxel."""
    total = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        place = torch.arange(n, device=x.device)
        after, before = (
            x.index_select(axis, (place + 1).clamp(max=n - 1)),
            x.index_select(axis, (place - 1).clamp(min=0)),
        )
        total = total + ((after - before) / 2).square()
    return blurred(total, sigma).sqrt()


def looks(sigmas: tuple[float, ...], factor: Factor, more: int = 0) -> Shape:
    """How many coarse voxels Gaussians one after another, and `more` fine voxels, look beyond a voxel."""
    fine = sum(len(gaussian_taps(sigma)) // 2 for sigma in sigmas) + more
    return tuple(-(-fine // f) for f in factor)
