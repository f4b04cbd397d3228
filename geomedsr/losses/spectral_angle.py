"""The spectral angle: how far a voxel's spectrum turns, whatever its brightness. For scenes of several bands.

Reference: Kruse et al. 1993 (SAM), DOI 10.1016/0034-4257(93)90013-N
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["SpectralAngle", "build"]

_OPPOSITE = 1 - 1e-6


class SpectralAngle(Loss):
    """The mean angle between the channel vectors of `sr` and `hr`, in radians; voxels without light do not count."""

    def __init__(self, dark: float = 1e-3) -> None:
        super().__init__()
        self.dark = dark

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        lit = (hr.norm(dim=1) > self.dark) & (sr.detach().norm(dim=1) > self.dark)
        a, b = (x / x.norm(dim=1, keepdim=True).clamp(min=self.dark) for x in (sr, hr))
        # 2 asin(|a - b| / 2) has a finite gradient at 0, where acos(a . b) has none.
        chord = ((a - b).square().sum(dim=1) + 1e-12).sqrt() / 2
        # At 1, for opposite spectra, it has none either; beyond the bound it is 0.
        angle = 2 * torch.asin(chord.clamp(max=_OPPOSITE)) - 1e-6
        mean: Tensor = (angle * lit).sum() / lit.sum().clamp(min=1)
        return mean


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return SpectralAngle(**settings)
