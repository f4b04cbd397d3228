"""Noise of instruments, in the units of the network's intensities."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gaussian", "rician"]


def _normal(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, device=rng.device, dtype=torch.float32).to(x)


def gaussian(x: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """Additive noise of standard deviation `sigma`."""
    return x + sigma * _normal(x, rng) if sigma > 0 else x


def rician(x: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """The magnitude of a complex image with noise of standard deviation `sigma` in each part.

    Reference: Gudbjartsson and Patz 1995, DOI 10.1002/mrm.1910340618
    """
    return torch.hypot(x + sigma * _normal(x, rng), sigma * _normal(x, rng)) if sigma > 0 else x
