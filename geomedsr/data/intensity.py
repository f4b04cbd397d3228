"""Intensity: the map from physical values to what a network sees, fitted once for an image, never for a tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geomedsr.grid import Box, Shape
from geomedsr.image import Source, Voxels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Intensity", "IntensityRule", "sample_boxes"]

Array = TypeVar("Array", Voxels, "Tensor")

_SAMPLE = 1 << 24
"""How many values a fit looks at, at most: it bounds memory and time, also for a series of hundreds of frames."""

_BOX = 1 << 20
"""How many values are read at once, at most."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """The map (x - offset) / scale and its inverse.

    Example:
        >>> float(Intensity(100.0, 50.0).apply(np.float32([150.0]))[0])
        1.0
    """

    offset: float = 0.0
    scale: float = 1.0

    def apply(self, x: Array) -> Array:
        """Physical values to the network's."""
        return (x - self.offset) * (1.0 / self.scale)

    def invert(self, x: Array) -> Array:
        """The network's values to physical ones."""
        return x * self.scale + self.offset


class IntensityRule(BaseModel):
    """How the map is found for an image.

    - `identity`: values as they are.
    - `percentile`: 0 to 0; the `high` percentile of the foreground (values above the image's mean) to 1. For MRI,
      whose units are arbitrary.
    - `window`: `low` to 0, `high` to 1, nothing is clipped. For CT, in HU.
    - `reflectance`: 0 to 0, `high` to 1, where digital numbers (values above 2) count `digital` for one whole
      reflectance. For optical scenes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["identity", "percentile", "window", "reflectance"] = "identity"
    low: float = 0.0
    high: float = 1.0
    digital: float = Field(default=10_000.0, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> IntensityRule:
        if self.high <= self.low:
            raise ValueError(f"high ({self.high}) must be above low ({self.low})")
        if self.name == "percentile" and self.high > 100:
            raise ValueError(f"a percentile is at most 100, not {self.high}")
        return self

    def fit(self, source: Source) -> Intensity:
        """The map for one image, from at most some ten million voxels spread evenly over it."""
        if self.name == "identity":
            return Intensity()
        if self.name == "window":
            return Intensity(self.low, self.high - self.low)
        values = _sample(source)
        if values.size == 0:
            return Intensity()
        if self.name == "reflectance":
            digital = float(np.percentile(values, 99.0)) > 2.0
            return Intensity(0.0, self.high * (self.digital if digital else 1.0))
        foreground = values[values > values.mean(dtype=np.float64)]
        scale = float(np.percentile(foreground, self.high)) if foreground.size else float(np.abs(values).max())
        return Intensity(0.0, scale if scale > 0 else 1.0)


def sample_boxes(shape: Shape, limit: int = _SAMPLE, channels: int = 1) -> Iterator[Box]:
    """Boxes that cover an image, or an even share of them when all its channels have more than `limit` voxels.

    Boxes are long on the last axes, as files are stored; which boxes are taken depends on the shape alone.
    """
    limit = max(limit // channels, 1)
    step = list(shape)
    for least, axis in product((64, 1), range(len(shape))):
        while np.prod(step) * channels > _BOX and step[axis] > least:
            step[axis] = (step[axis] + 1) // 2
    boxes = list(Box.whole(shape).split(tuple(step)))
    share = max(1.0, float(np.prod(shape, dtype=np.float64)) / limit)
    # One box of each run of `share` boxes; the golden ratio places it, so that no column is favoured.
    places = [run + (run * 0.6180339887498949) % 1.0 for run in range(int(len(boxes) / share))] if share > 1 else []
    yield from [boxes[int(place * share)] for place in places] or boxes


def _sample(source: Source) -> Voxels:
    parts = []
    for box in sample_boxes(source.spec.grid.shape, channels=len(source.spec.channels)):
        voxels = source.read(box)
        parts.append(voxels[np.isfinite(voxels)])
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
