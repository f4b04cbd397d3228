"""The focal frequency loss: squared spectral differences, weighted towards the frequencies that are hardest now.

Reference: Jiang et al. 2021, "Focal Frequency Loss for Image Reconstruction and Synthesis", arXiv:2012.12821
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["FocalFrequency", "build"]


class FocalFrequency(Loss):
    """Each image's and channel's spectrum weighs itself by its own error, to the power `alpha`, at most 1."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha is at least 0, not {alpha}")
        self.alpha = alpha

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        axes = tuple(range(2, sr.ndim))
        spectrum = torch.view_as_real(torch.fft.rfftn((sr - hr).float(), dim=axes, norm="ortho"))
        error = spectrum.square().sum(-1)
        weight = error.detach().sqrt().pow(self.alpha)
        weight = weight / weight.amax(dim=axes, keepdim=True).clamp(min=1e-12)
        return (weight * error).mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return FocalFrequency(**settings)
