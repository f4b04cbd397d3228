"""Fourier ring (2 axes) or shell (3 axes) correlation, and the resolution at which it falls below a threshold.

FRC(k) = sum F G* / sqrt(sum |F|^2 sum |G|^2) over the ring of spatial frequency k, F and G the spectra of prediction
and reference, all channels together. The resolution is 1 / k where the curve first falls below 1/7, between two rings
by straight line, and twice the finest spacing where it never does. The threshold of 1/7 is that of Rosenthal and
Henderson 2003 (DOI 10.1016/j.jmb.2003.07.013), meant for two halves of noisy data; against a reference it tells down
to which size of detail more than noise is shared. `correlation` also gives the half-bit curve of van Heel and Schatz.

Invalid voxels are set to the mean of the valid ones, and a Hann window takes the borders away.

Reference: van Heel and Schatz 2005, DOI 10.1016/j.jsb.2005.05.009
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "Correlation", "correlation", "measure"]

LABEL, UNITS = "FRC resolution", "space"
BETTER: Better = "lower"

_SMALLEST = 16
_THRESHOLD = 1 / 7


@dataclass(frozen=True, slots=True)
class Correlation:
    """The curve: for each ring its spatial frequency (cycles per mm or m), correlation, and how many numbers it has."""

    frequency: NDArray[np.float64]
    value: NDArray[np.float64]
    count: NDArray[np.float64]

    @property
    def half_bit(self) -> NDArray[np.float64]:
        """The threshold at which a ring holds half a bit of information, by the number of its independent voxels."""
        root = np.sqrt(np.maximum(self.count / 2, 1.0))
        return np.asarray((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))

    def resolution(self, threshold: float | NDArray[np.float64] = _THRESHOLD) -> float:
        """The size of detail, 1 / frequency, at which the curve first falls below a threshold.

        Units: mm or m, those of the spacing
        """
        over = self.value - threshold
        below = np.flatnonzero(over < 0)
        if below.size == 0:
            return float(1 / self.frequency[-1])
        last = int(below[0])
        if last == 0:
            return float(1 / self.frequency[0])
        share = over[last - 1] / (over[last - 1] - over[last])
        crossing = self.frequency[last - 1] + share * (self.frequency[last] - self.frequency[last - 1])
        return float(1 / crossing)


def correlation(pair: Compared) -> Correlation:
    """The Fourier ring or shell correlation of two images, up to the finest axis' Nyquist frequency."""
    spectra = [_spectrum(image) for image in pair.masked]
    shape = pair.masked[0].shape[1:]
    rings, width = _rings(shape, pair.steps)
    cross = (spectra[0] * spectra[1].conj()).real.sum(axis=0)
    powers = [(np.abs(one) ** 2).sum(axis=0) for one in spectra]
    last = int(rings.max()) + 1
    # Each number of half a spectrum stands for two, but for those of the planes at 0 and Nyquist.
    twice = np.full(rings.shape, 2.0)
    twice[..., 0] = 1
    twice[..., -1] = 1 + shape[-1] % 2
    weights = [twice.ravel(), *((twice * one).ravel() for one in (cross, *powers))]
    count, shared, first, second = (np.bincount(rings.ravel(), one, last) for one in weights)
    kept = (count > 0) & (np.arange(last) > 0) & (np.arange(last) * width <= 0.5 / min(pair.steps) * (1 + 1e-9))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.nan_to_num(shared / np.sqrt(first * second))
    frequency = np.arange(last, dtype=np.float64) * width
    return Correlation(frequency[kept], value[kept], np.asarray(count[kept], np.float64))


def measure(pair: Compared) -> float | None:
    """The resolution of two images, or None where they are too small for rings."""
    if min(pair.masked[0].shape[1:]) < _SMALLEST or not pair.valid.any():
        return None
    return correlation(pair).resolution()


def _spectrum(x: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Half the spectrum of each channel, windowed, in single precision."""
    from scipy import fft

    axes = tuple(range(1, x.ndim))
    known = np.isfinite(x)
    count = known.sum(axis=axes, keepdims=True)
    mean = np.where(known, x, 0).sum(axis=axes, keepdims=True) / np.maximum(count, 1)
    windowed = np.where(known, x - mean, 0).astype(np.float32)
    for axis in axes:
        view = [1] * x.ndim
        view[axis] = x.shape[axis]
        windowed *= np.hanning(x.shape[axis] + 2)[1:-1].astype(np.float32).reshape(view)
    return np.asarray(fft.rfftn(windowed, axes=axes))


def _rings(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[NDArray[np.int64], float]:
    """The ring that each number of half a spectrum belongs to, and a ring's width: the coarsest axis' step."""
    squares = np.zeros(1)
    for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        frequency = np.fft.rfftfreq(n, step) if axis == len(shape) - 1 else np.fft.fftfreq(n, step)
        view = [1] * len(shape)
        view[axis] = frequency.size
        squares = squares + frequency.reshape(view) ** 2
    width = max(1 / (n * step) for n, step in zip(shape, spacing, strict=True))
    return np.rint(np.sqrt(squares) / width).astype(np.int64), width
