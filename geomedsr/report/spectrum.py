"""How much of an image's contrast is in which detail: its power by spatial frequency."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Power", "Spectrum"]

_BINS = 64
_LEAST = 8


@dataclass
class Power:
    """The power of windows of an image in rings of spatial frequency, added up window by window.

    `spacing` is that of the windows' rows and columns, `nyquist` the highest frequency on each of these axes that the
    coarse image holds; what lies beyond on either axis is detail that no voxel of it can hold. `along` says which
    axes' frequencies count for a ring (0 rows, 1 columns), `limit` is the frequency at which the last one ends.

    Units: frequencies in cycles per unit of `spacing`
    """

    spacing: tuple[float, float]
    nyquist: tuple[float, float]
    limit: float
    along: tuple[int, ...] = (0, 1)
    _total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    _count: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    _within: float = 0.0
    _beyond: float = 0.0

    def add(self, window: NDArray[np.float32]) -> bool:
        """Adds a window without invalid voxels, at least 8 voxels on a side; says whether it was such a one.

        Shape: (rows, columns)
        """
        if min(window.shape) < _LEAST or not np.isfinite(window).all():
            return False
        taper = np.multiply.outer(np.hanning(window.shape[0] + 2)[1:-1], np.hanning(window.shape[1] + 2)[1:-1])
        tapered = (window - (window * taper).sum() / taper.sum()) * taper
        power = np.abs(np.fft.fft2(tapered)) ** 2 / (taper**2).sum() * self.spacing[0] * self.spacing[1]
        down, across = (np.fft.fftfreq(n, d) for n, d in zip(window.shape, self.spacing, strict=True))
        radius = np.hypot(*(f * (axis in self.along) for axis, f in enumerate((down[:, None], across[None]))))
        ring = np.minimum((radius / self.limit * _BINS).astype(np.intp), _BINS)
        self._total += np.bincount(ring.ravel(), power.ravel(), _BINS + 1)[:_BINS]
        self._count += np.bincount(ring.ravel(), minlength=_BINS + 1)[:_BINS]
        fine = (np.abs(down)[:, None] > self.nyquist[0] * (1 + 1e-9)) | (
            np.abs(across)[None] > self.nyquist[1] * (1 + 1e-9)
        )
        self._beyond += float(power[fine].sum()) / window.size
        self._within += float(power[~fine].sum()) / window.size
        return True

    @property
    def share_beyond(self) -> float | None:
        """The share of the contrast's energy that lies beyond the coarse image's Nyquist; None without contrast."""
        total = self._within + self._beyond
        return self._beyond / total if total > 0 else None

    @property
    def curve(self) -> list[tuple[float, float]]:
        """The mean power of each ring that has any, at the ring's middle."""
        middles = (np.arange(_BINS) + 0.5) / _BINS * self.limit
        return [
            (float(f), float(t / c))
            for f, t, c in zip(middles, self._total, self._count, strict=True)
            if c > 0 and t > 0
        ]


@dataclass(frozen=True)
class Spectrum:
    """The curves to draw, by name, with the coarse image's Nyquist frequency on its finer axis.

    Units: frequencies in cycles per `units`
    """

    curves: dict[str, list[tuple[float, float]]]
    nyquist: float
    limit: float
    units: str
