"""A coarser sensor: a Gaussian point spread, then the average over each coarse voxel's area.

The Gaussian is as wide as makes the whole chain's modulation transfer function (MTF) equal to `mtf` at the coarse
grid's Nyquist frequency, the one figure that space agencies publish.

Reference: Aiazzi et al. 2006, "MTF-tailored multiscale fusion", DOI 10.14358/PERS.72.5.591
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._axis import average_axis, filter_axis, gaussian_taps
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._mtf import published
from geomedsr.degradations._noise import Noise, NoiseSetting
from geomedsr.degradations._range import Range, Setting
from geomedsr.errors import RecipeError

__all__ = ["Sensor", "build", "gaussian_sigma"]

_STEPS = 1000
"""Drawn values are rounded to thousandths, finer than any that is published, so that few Gaussians are sought."""


@lru_cache(maxsize=4096)
def gaussian_sigma(mtf: float, factor: int) -> float:
    """The Gaussian's standard deviation, in fine voxels, that brings a box of `factor` voxels down to `mtf`.

    Found by bisection on the sampled kernel's own response, which at small sigma is not the continuous one's.

    Example:
        >>> round(gaussian_sigma(0.3, 2), 3)
        0.834
    """
    nyquist = 1 / (2 * factor)
    box = 1.0 / (factor * math.sin(math.pi * nyquist))
    low, high = 0.05, 4.0 * factor
    for _ in range(60):
        middle = (low + high) / 2
        taps = gaussian_taps(middle)
        radius = len(taps) // 2
        response = sum(t * math.cos(2 * math.pi * nyquist * (k - radius)) for k, t in enumerate(taps))
        low, high = (middle, high) if response * box > mtf else (low, middle)
    return low


class Sensor(Separable):
    """Gaussian MTF, area average, Gaussian noise.

    `mtf` is one value, or one for each channel, each a number or [low, high] (so that one range for all channels is
    [[low, high]]), or the name of a sensor whose published values are picked by `bands`, in the order of the
    channels: `sentinel2` or `sentinel2_cnes`, two sources that differ by up to 0.044 in the 10 m bands.
    """

    def __init__(
        self,
        mtf: str | float | Sequence[Setting] = 0.3,
        noise: NoiseSetting = 0.0,
        bands: Sequence[str | int] | None = None,
    ) -> None:
        if bands is not None and not isinstance(mtf, str):
            raise ValueError("bands pick from a sensor's published values; name it, as in mtf: sentinel2")
        values = published(mtf, bands) if isinstance(mtf, str) else mtf if isinstance(mtf, list | tuple) else [mtf]
        if not values:
            raise ValueError("mtf is one value, or one for each channel; the list is empty")
        self.ranges = tuple(Range.of("mtf", value, 0.01, 1) for value in values)
        self.maps = len(self.ranges)
        self.noise = Noise.of(noise, "gaussian")
        # Wide enough for the factors in use (up to 8); a wider margin costs little.
        self.reach = 8 * math.ceil(4 * gaussian_sigma(min(one.low for one in self.ranges), 8) / 8)

    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse.

        Raises:
            RecipeError: there are several values of `mtf`, but not one for each channel.
        """
        if self.maps not in (1, x.shape[1]):
            raise RecipeError(
                f"degradation sensor: mtf has {self.maps} values for {x.shape[1]} channels; give one for each, "
                "one for all, or one range for all as [[low, high]]."
            )
        return average_axis(filter_axis(x, axis, self._taps(factor, x, rng)), axis, factor)

    def _taps(self, factor: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Shape: (B, maps, K) for a batch x, or (1, maps, K) where nothing is drawn."""
        tables = _kernels(self.ranges, factor, x.device)
        if not any(one.random for one in self.ranges):
            return torch.stack([table[:1] for table in tables], 1)
        return torch.stack([table[self._row(one, x, rng)] for one, table in zip(self.ranges, tables, strict=True)], 1)

    def _row(self, one: Range, x: Tensor, rng: torch.Generator) -> Tensor:
        """Which kernel of its table each image has.

        Shape: (B,)
        """
        drawn = one.draw(len(x), rng)
        if not isinstance(drawn, Tensor):
            return torch.zeros(len(x), dtype=torch.long, device=x.device)
        return (drawn.to(x.device).double() * _STEPS).round().long() - round(one.low * _STEPS)


@lru_cache(maxsize=64)
def _kernels(ranges: tuple[Range, ...], factor: int, device: torch.device) -> list[Tensor]:
    """For each range the kernels of all its values, on the device, so that drawing from them waits for nothing.

    Shape: (values, K) each
    """
    values = [_values(one) for one in ranges]
    found = [[gaussian_taps(gaussian_sigma(mtf, factor)) for mtf in each] for each in values]
    width = max(len(kernel) for each in found for kernel in each)
    return [torch.tensor([_widened(kernel, width) for kernel in each], device=device) for each in found]


def _values(one: Range) -> list[float]:
    """All values that a range may draw; a number is kept as it is."""
    if not one.random:
        return [one.low]
    return [step / _STEPS for step in range(round(one.low * _STEPS), round(one.high * _STEPS) + 1)]


def _widened(kernel: list[float], width: int) -> list[float]:
    margin = [0.0] * ((width - len(kernel)) // 2)
    return margin + kernel + margin


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return Sensor(**settings)
