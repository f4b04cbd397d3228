"""A scan of lower resolution: the outer part of k-space is never acquired.

The spectrum of each axis is cut to the coarse grid's band. A half-voxel phase keeps the image in its place: coarse
voxel i is centred on the fine voxels [f i, f i + f).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations import _noise
from geomedsr.degradations._degradation import Degradation
from geomedsr.grid import Factor

__all__ = ["KSpace", "build", "truncate_axis"]


def truncate_axis(x: Tensor, axis: int, factor: int, apodisation: float = 0.0) -> Tensor:
    """One axis cut to the lowest 1 / factor of its frequencies.

    `apodisation` is the share of the kept band over which a cosine taper falls to zero (Tukey): it trades ringing
    for softness.
    """
    n = x.shape[axis]
    coarse = n // factor
    kept = coarse // 2 + 1
    spectrum = torch.fft.rfft(x, dim=axis).narrow(axis, 0, kept)
    frequency = torch.arange(kept, device=x.device, dtype=torch.float64)
    shift = torch.exp(2j * torch.pi * frequency * ((factor - 1) / 2) / n)
    if apodisation > 0:
        place = (frequency / (coarse / 2)).clamp(max=1.0)
        fall = ((place - (1 - apodisation)) / apodisation).clamp(min=0.0)
        shift = shift * (0.5 + 0.5 * torch.cos(torch.pi * fall))
    view = [1] * x.ndim
    view[axis] = kept
    spectrum = spectrum * shift.to(spectrum.dtype).reshape(view)
    image: Tensor = torch.fft.irfft(spectrum, n=coarse, dim=axis)
    return image / factor


class KSpace:
    """Truncation of k-space on every axis with a factor above 1, then Rician noise of `noise`."""

    reach: int | None = None

    def __init__(self, apodisation: float = 0.0, noise: float = 0.0) -> None:
        if not 0 <= apodisation <= 1 or noise < 0:
            raise ValueError(f"apodisation is between 0 and 1, noise at least 0; got {apodisation} and {noise}")
        self.apodisation = apodisation
        self.noise = noise

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch."""
        lr = hr.float()
        for axis, f in enumerate(factor, start=2):
            if f > 1:
                lr = truncate_axis(lr, axis, f, self.apodisation)
        return _noise.rician(lr, self.noise, rng)


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return KSpace(**settings)
