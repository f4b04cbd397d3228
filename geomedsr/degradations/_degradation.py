"""What every degradation is, and what those have in common that treat one axis after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from geomedsr.degradations._noise import Noise
from geomedsr.degradations._range import Range
from geomedsr.grid import Factor

__all__ = ["Degradation", "Separable"]


class Degradation(Protocol):
    """A fine batch to the coarse one that an instrument would give.

    Coarse voxel i covers the fine voxels [f i, f i + f): nothing is shifted. `reach` is how many fine voxels beyond
    those it looks at (None: at the whole axis, so whole images are degraded rather than patches).
    """

    reach: int | None

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch.

        Shape: (B, C, *S) to (B, C, *(S / factor))
        """
        ...


class Separable(ABC):
    """The same kind of linear map on every axis with a factor above 1, then noise.

    `ranges` are the settings of the map: where one is a range, each image draws its own value, and one for each axis.
    `maps` is how many channels have a map of their own (1: all have the same).
    """

    reach: int | None = None
    maps: int = 1
    ranges: tuple[Range, ...]
    noise: Noise

    @abstractmethod
    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse, in its own precision and without noise."""

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch."""
        lr = hr.float()
        for axis, f in enumerate(factor, start=2):
            if f > 1:
                lr = self.along(lr, axis, f, rng)
        return self.noise(lr, rng)

    def matrix(self, length: int, factor: int) -> Tensor:
        """The linear map of one axis of `length` fine voxels; the whole, but for noise, is such a matrix on each axis.

        Shape: (length / factor, length) in float64, with the channels in front where their maps differ

        Raises:
            ValueError: a setting is a range, so that there is no one matrix, or the length is not divisible.
        """
        if any(setting.random for setting in self.ranges):
            raise ValueError("the degradation draws its settings anew for each image; give numbers instead of ranges")
        if length % factor:
            raise ValueError(f"an axis of {length} voxels is not divisible by {factor}")
        impulses = torch.eye(length, dtype=torch.float64).expand(1, self.maps, length, length)
        images = self.along(impulses, 2, factor, torch.Generator()) if factor > 1 else impulses
        return images[0] if self.maps > 1 else images[0, 0]
