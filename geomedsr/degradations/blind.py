"""A chain drawn anew for each image, for networks that meet images of unknown origin.

Each axis is blurred by a Gaussian of its own width, then sampled partly as a sensor does (the average over each coarse
voxel) and partly as a scanner does (truncated, apodised k-space); noise follows. The widths are independent, so that
the blur is anisotropic; nothing is shifted, whatever is drawn.

Reference: Zhang et al. 2021, "Designing a practical degradation model for deep blind image super-resolution",
    DOI 10.1109/ICCV48922.2021.00475; for scans, Iglesias et al. 2021, DOI 10.1016/j.neuroimage.2021.118206
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._axis import average_axis, filter_axis, truncate_axis
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._noise import Noise, NoiseSetting
from geomedsr.degradations._range import Range, Setting, spread

__all__ = ["Blind", "build"]


class Blind(Separable):
    """Gaussian blur, a mix of averaging and truncation, Gaussian noise.

    `blur` is the Gaussian's standard deviation in coarse voxels; `mix` the share of the sensor's average, the rest
    being the scanner's truncation with its `apodisation`.
    """

    def __init__(
        self,
        blur: Setting = (0.1, 0.5),
        mix: Setting = (0.0, 1.0),
        apodisation: Setting = (0.0, 1.0),
        noise: NoiseSetting = 0.0,
    ) -> None:
        self.blur = Range.of("blur", blur, 0, 2)
        self.mix = Range.of("mix", mix, 0, 1)
        self.apodisation = Range.of("apodisation", apodisation, 0, 1)
        self.ranges = (self.blur, self.mix, self.apodisation)
        self.noise = Noise.of(noise, "gaussian")

    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse."""
        blur, mix, apodisation = (one.draw(x.shape[0], rng) for one in self.ranges)
        blurred = filter_axis(x, axis, self._taps(blur, factor))
        share = spread(mix, x)
        averaged = average_axis(blurred, axis, factor)
        return share * averaged + (1 - share) * truncate_axis(blurred, axis, factor, apodisation)

    def _taps(self, blur: float | Tensor, factor: int) -> Tensor:
        """Shape: (B, 1, K) of blurs (B,)"""
        radius = max(1, math.ceil(4 * self.blur.high * factor))
        # At a twentieth of a voxel the neighbours weigh nothing: no blur at all.
        sigma = (torch.as_tensor(blur).double() * factor).clamp(min=0.05).reshape(-1, 1, 1)
        place = torch.arange(-radius, radius + 1, dtype=torch.float64, device=sigma.device)
        taps = torch.exp(-0.5 * (place / sigma) ** 2)
        return taps / taps.sum(-1, keepdim=True)


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return Blind(**settings)
