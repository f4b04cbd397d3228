"""What an output's values say beside its input's: held at an end, invalid elsewhere, spread differently, less green."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor
from geomedsr.image import Voxels
from geomedsr.metrics.ndvi import ndvi, red_and_nir

__all__ = ["Drift", "Ends", "Holes"]

_SAMPLE = 1 << 20


@dataclass
class Ends:
    """How many of an image's voxels have exactly its smallest and its largest value, block by block."""

    low: float = np.inf
    high: float = -np.inf
    at_low: int = 0
    at_high: int = 0
    count: int = 0

    def add(self, values: Voxels) -> None:
        """Takes some valid values."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if low < self.low:
            self.low, self.at_low = low, 0
        if high > self.high:
            self.high, self.at_high = high, 0
        self.at_low += int((values == self.low).sum())
        self.at_high += int((values == self.high).sum())
        self.count += values.size

    @property
    def shares(self) -> tuple[float, float]:
        """The shares of the voxels at both ends."""
        return self.at_low / max(self.count, 1), self.at_high / max(self.count, 1)


@dataclass
class Holes:
    """How many voxels are invalid in the output and not in the input, and the other way round."""

    lost: int = 0
    made: int = 0

    def add(self, x: Voxels, y: Voxels, factor: Factor) -> None:
        """Takes one channel of a block: (*S) of both."""
        there = np.isnan(y)
        for axis, f in enumerate(factor):
            there = np.repeat(there, f, axis)
        here = np.isnan(x)
        self.lost += int((there & ~here).sum())
        self.made += int((here & ~there).sum())


@dataclass
class Drift:
    """Values of the degraded output and of the input at the same places: a sample that is spread over the image."""

    total: int
    channels: tuple[str, ...]
    _pairs: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, coarse: Voxels, y: Voxels) -> None:
        """Takes a block: (C, *S) of both."""
        step = max(1, self.total // _SAMPLE)
        both = np.stack([coarse.reshape(len(y), -1), y.reshape(len(y), -1)])[..., ::step]
        self._pairs.append(both[..., np.isfinite(both).all(axis=(0, 1))])

    @property
    def histogram(self) -> list[float]:
        """The Wasserstein distance of each channel's values over the spread (standard deviation) of the input's."""
        coarse, y = np.concatenate(self._pairs, axis=-1).astype(np.float64)
        if not y.shape[-1]:
            return [0.0] * len(self.channels)
        moved = np.abs(np.sort(coarse, axis=1) - np.sort(y, axis=1)).mean(axis=1)
        return [float(value) for value in moved / np.maximum(y.std(axis=1), 1e-12)]

    @property
    def ndvi(self) -> float | None:
        """The mean absolute change of the vegetation index, or None where the bands are not known."""
        places = red_and_nir(self.channels)
        if places is None:
            return None
        coarse, y = np.concatenate(self._pairs, axis=-1)
        red, nir = places
        change = np.abs(ndvi(coarse[red], coarse[nir]) - ndvi(y[red], y[nir]))
        return float(np.nanmean(change)) if np.isfinite(change).any() else None
