"""One minus structural similarity over several octaves.

Reference: Wang, Simoncelli, Bovik 2003, DOI 10.1109/ACSSC.2003.1292216
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from geomedsr.losses._loss import Loss
from geomedsr.losses._similarity import WINDOW, similarity

__all__ = ["MSSSIM", "build"]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The paper's weight of each octave, finest first."""


class MSSSIM(Loss):
    """1 - MS-SSIM; patches too small for five octaves use as many as fit, their weights scaled to sum to 1."""

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        if data_range <= 0:
            raise ValueError(f"data_range is above 0, not {data_range}")
        self.data_range = data_range

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        pool = functional.avg_pool2d if sr.ndim == 4 else functional.avg_pool3d
        levels = 1
        while levels < len(WEIGHTS) and min(sr.shape[2:]) >> levels >= WINDOW:
            levels += 1
        share = sum(WEIGHTS[:levels])
        total = torch.ones(sr.shape[:2], device=sr.device)
        axes = tuple(range(2, sr.ndim))
        for level in range(levels):
            luminance, structure = similarity(sr, hr, self.data_range)
            last = level == levels - 1
            value = (luminance * structure if last else structure).mean(dim=axes)
            # A negative similarity has no fractional power: it counts as none, with a slope that leads out of it.
            total = total * functional.softplus(value, beta=100).clamp(min=1e-4) ** (WEIGHTS[level] / share)
            if not last:
                sr, hr = pool(sr, 2), pool(hr, 2)
        return 1 - total.mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return MSSSIM(**settings)
