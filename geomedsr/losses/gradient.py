"""The gradient loss: the mean absolute difference of the images' finite differences along each axis.

Reference: Ma et al. 2020 (SPSR), arXiv:2003.13081
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["Gradient", "build"]


class Gradient(Loss):
    """Edges as sharp as in the fine image, and no others."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar, averaged over axes."""
        difference = sr - hr
        return torch.stack([difference.diff(dim=axis).abs().mean() for axis in range(2, sr.ndim)]).mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Gradient(**settings)
