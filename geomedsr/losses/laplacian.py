"""The Laplacian pyramid loss: differences octave by octave, so that coarse ones do not drown fine ones.

Reference: Burt and Adelson 1983, DOI 10.1109/TCOM.1983.1095851; Bojanowski et al. 2018, arXiv:1707.05776
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from geomedsr.losses._loss import Loss

__all__ = ["Laplacian", "build"]


class Laplacian(Loss):
    """The sum over `levels` octaves of the mean absolute difference, the last one being what is left."""

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels is at least 1, not {levels}")
        self.levels = levels

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        pool = functional.avg_pool2d if sr.ndim == 4 else functional.avg_pool3d
        mode = "bilinear" if sr.ndim == 4 else "trilinear"
        # The pyramid is linear: that of the difference is the difference of the pyramids.
        rest, parts = sr - hr, []
        for _ in range(self.levels - 1):
            if min(rest.shape[2:]) < 4:
                break
            coarse = pool(rest, 2)
            back = functional.interpolate(coarse, size=rest.shape[2:], mode=mode, align_corners=False)
            parts.append((rest - back).abs().mean())
            rest = coarse
        return torch.stack([*parts, rest.abs().mean()]).sum()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Laplacian(**settings)
