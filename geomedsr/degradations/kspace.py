"""A scan of lower resolution: the outer part of k-space is never acquired.

The spectrum of each axis is cut to the coarse grid's band. A half-voxel phase keeps the image in its place: coarse
voxel i is centred on the fine voxels [f i, f i + f).

Reference: Haacke et al. 1999, "Magnetic resonance imaging: physical principles and sequence design", chapter 13
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._axis import truncate_axis
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._noise import Noise, NoiseSetting
from geomedsr.degradations._range import Range, Setting

__all__ = ["KSpace", "build"]


class KSpace(Separable):
    """Truncation of k-space on every axis with a factor above 1, then Rician noise.

    `apodisation` is the share of the kept band over which a cosine taper falls to zero: less ringing, more blur.
    """

    def __init__(self, apodisation: Setting = 0.0, noise: NoiseSetting = 0.0) -> None:
        self.apodisation = Range.of("apodisation", apodisation, 0, 1)
        self.ranges = (self.apodisation,)
        self.noise = Noise.of(noise, "rician")

    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse."""
        return truncate_axis(x, axis, factor, self.apodisation.draw(x.shape[0], rng))


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return KSpace(**settings)
