"""Two images of one place, and what a metric must know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GridError
from geomedsr.image import Voxels

__all__ = ["Compared"]


@dataclass(frozen=True)
class Compared:
    """A prediction and its reference, voxel by voxel. A voxel counts where both are finite.

    `data_range` is the span of values that errors are held against, in the images' own units. `spacing` is that of
    both, in `units`; `factor` how many times finer they are than what the prediction was made from.

    Shape: sr and hr (C, *S), S of 2 or 3 axes

    Raises:
        GridError: the shapes differ, or the data range is not above 0.
    """

    sr: Voxels
    hr: Voxels
    data_range: float
    spacing: tuple[float, ...] = ()
    units: str = ""
    factor: tuple[int, ...] = ()
    channels: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.sr.shape != self.hr.shape:
            raise GridError(f"Images to compare have one shape; these have {self.sr.shape} and {self.hr.shape}.")
        if not self.data_range > 0:
            raise GridError(f"A data range is above 0; got {self.data_range}.")

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Where both are finite: (C, *S)."""
        return np.isfinite(self.sr) & np.isfinite(self.hr)

    @cached_property
    def masked(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both in double precision, NaN in both where either is invalid; axes of one voxel are left out."""
        flat = tuple(a for a in range(1, self.sr.ndim) if self.sr.shape[a] == 1) if self.sr.ndim > 3 else ()
        x, y = (np.where(self.valid, image.astype(np.float64), np.nan) for image in (self.sr, self.hr))
        return np.squeeze(x, flat), np.squeeze(y, flat)

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """The spacing of the axes that `masked` has; 1 where it is not known."""
        spacing = self.spacing or (1.0,) * (self.sr.ndim - 1)
        long = [n > 1 or self.sr.ndim <= 3 for n in self.sr.shape[1:]]
        return tuple(step for step, kept in zip(spacing, long, strict=True) if kept)

    def each_channel(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The valid voxels of each channel that has any, as two lists."""
        for x, y, valid in zip(self.sr, self.hr, self.valid, strict=True):
            if valid.any():
                yield x[valid].astype(np.float64), y[valid].astype(np.float64)

    @cached_property
    def vectors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The voxels that are valid in all channels: (C, n) of both."""
        whole = self.valid.all(axis=0)
        return self.sr[:, whole].astype(np.float64), self.hr[:, whole].astype(np.float64)
