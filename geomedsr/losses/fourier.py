"""The Fourier loss: the mean absolute difference of the images' spectra.

Reference: Fuoli et al. 2021, "Fourier Space Losses for Efficient Perceptual Image Super-Resolution", arXiv:2106.00783
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["Fourier", "build"]


class Fourier(Loss):
    """|FFT(sr - hr)| with orthonormal scaling, averaged: every frequency counts alike, however little energy it has."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        spectrum = torch.fft.rfftn((sr - hr).float(), dim=tuple(range(2, sr.ndim)), norm="ortho")
        # The modulus by hand: that of zero has no gradient.
        return (torch.view_as_real(spectrum).square().sum(-1) + 1e-12).sqrt().mean() - 1e-6


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Fourier(**settings)
