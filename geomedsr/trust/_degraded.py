"""What a degradation does besides noise, on an image's own values: what a fine image must give when made coarse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.grid import Factor
from geomedsr.image import Voxels
from geomedsr.model import Model, build_degradation
from geomedsr.networks.interpolate import upsample

__all__ = ["AVERAGE", "Linear", "averaged", "degradation_of", "interpolated", "linear_part"]

_CLEAN = 0.02
"""How much of a coarse voxel's weight may lie on invalid fine ones before it counts as invalid."""


@dataclass(frozen=True)
class Linear:
    """The linear part of a degradation: a map on each axis that keeps constants. None of them is the box average."""

    name: str
    degradation: Separable | None = None

    def halo(self, factor: Factor) -> tuple[int | None, ...]:
        """How many coarse voxels around a block it looks at on each axis; None: at the whole axis."""
        if self.degradation is None:
            return (0,) * len(factor)
        reach = self.degradation.reach
        return tuple(0 if f == 1 else None if reach is None else math.ceil(reach / f) for f in factor)

    def __call__(self, x: Voxels, factor: Factor) -> Voxels:
        """The coarse image, NaN where invalid voxels have a part in it.

        Shape: (C, *S) to (C, *(S / factor))
        """
        invalid = ~np.isfinite(x)
        if not invalid.any():
            return self._applied(x, factor)
        weight = self._applied((~invalid).astype(np.float32), factor)
        coarse = self._applied(np.where(invalid, np.float32(0), x), factor)
        return np.where(np.abs(weight - 1) <= _CLEAN, coarse / np.where(weight == 0, 1, weight), np.float32(np.nan))

    def _applied(self, x: Voxels, factor: Factor) -> Voxels:
        if self.degradation is None:
            return averaged(x, factor)
        batch = torch.from_numpy(np.ascontiguousarray(x))[None]
        for axis, f in enumerate(factor, start=2):
            if f > 1:
                batch = self.degradation.along(batch, axis, f, torch.Generator())
        return np.asarray(batch[0].numpy())


AVERAGE = Linear("average of the fine voxels")


def degradation_of(model: Model, channels: int) -> Linear:
    """How a model's outputs are made coarse again: by its own degradation, or by the average where that has no map."""
    if model.recipe is None:
        return AVERAGE
    part = model.recipe.nominal
    return linear_part(part.name, build_degradation(model.recipe, part), channels) or AVERAGE


def linear_part(name: str, degradation: Degradation, channels: int) -> Linear | None:
    """The linear part of a model's degradation; None where it is drawn anew for each image, or is none for an axis."""
    if not isinstance(degradation, Separable) or any(one.random for one in degradation.ranges):
        return None
    return Linear(name, degradation) if degradation.maps in (1, channels) else None


def interpolated(y: Voxels, factor: Factor) -> Voxels:
    """The coarse image made finer by cubic interpolation: what a network would have to do better than.

    Shape: (C, *S) to (C, *(S * factor)), NaN where the coarse voxel is invalid
    """
    smooth = upsample(torch.from_numpy(np.nan_to_num(y))[None], "cubic", factor)[0].numpy()
    invalid = np.isnan(y)
    if invalid.any():
        for axis, f in enumerate(factor, start=1):
            invalid = np.repeat(invalid, f, axis)
        smooth[invalid] = np.nan
    return np.asarray(smooth)


def averaged(x: Voxels, factor: Factor) -> Voxels:
    """Means of the fine voxels that each coarse one covers, NaN where one of them is.

    Shape: (C, *S) to (C, *(S / factor))
    """
    shape = [x.shape[0]]
    for n, f in zip(x.shape[1:], factor, strict=True):
        shape += [n // f, f]
    axes = tuple(range(2, len(shape), 2))
    return np.asarray(x.reshape(shape).mean(axis=axes, dtype=np.float64), dtype=np.float32)
