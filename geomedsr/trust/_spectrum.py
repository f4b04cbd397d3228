"""How much of an output's energy lies beyond the input's Nyquist frequency, where the input says nothing.

Held against what the input's own spectrum would have there if it went on falling as it does: natural images fall by a
power of the frequency. Far more than that is noise, ringing, a pattern or an overeager network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Factor
from geomedsr.trust._aligned import Block

__all__ = ["Spectra"]

_LENGTH = 32
_SEGMENTS = 4096
"""Segments of each axis that are looked at in a block, at most."""


class Spectra:
    """Mean power spectra of both images along each axis that was made finer."""

    def __init__(self, factor: Factor) -> None:
        self._factor = factor
        self._fine = {axis: np.zeros(_LENGTH * f // 2 + 1) for axis, f in enumerate(factor) if f > 1}
        self._coarse = {axis: np.zeros(_LENGTH // 2 + 1) for axis in self._fine}

    def add(self, block: Block) -> None:
        """Takes a block."""
        for axis, factor in enumerate(self._factor):
            if factor > 1:
                self._fine[axis] += _power(block.x[block.inner_fine], axis, _LENGTH * factor)
                self._coarse[axis] += _power(block.y[block.inner], axis, _LENGTH)

    def beyond(self, axis: int) -> tuple[float, float] | None:
        """The share of the energy beyond the input's Nyquist frequency, and the share that would be expected.

        The lowest frequencies do not count: they are the image's brightness. None where an axis is too short.
        """
        fine, coarse = self._fine[axis], self._coarse[axis]
        nyquist = len(coarse) - 1
        if fine[2:].sum() <= 0 or coarse[2:].sum() <= 0:
            return None
        places = np.arange(nyquist // 4, int(0.8 * nyquist) + 1)
        slope, height = np.polyfit(np.log(places), np.log(np.maximum(coarse[places], 1e-300)), 1)
        ahead = np.exp(height + slope * np.log(np.arange(nyquist + 1, len(fine))))
        expected = float(ahead.sum() / (coarse[2:].sum() + ahead.sum()))
        return float(fine[nyquist + 1 :].sum() / fine[2:].sum()), expected


def _power(x: NDArray[np.float32], axis: int, length: int) -> NDArray[np.float64]:
    """The sum over segments of an axis of their power, each less its mean and windowed."""
    lines = np.moveaxis(x, axis + 1, -1)
    count = lines.shape[-1] // length
    segments = lines[..., : count * length].reshape(-1, length)
    segments = segments[:: max(1, len(segments) // _SEGMENTS)]
    segments = segments[np.isfinite(segments).all(axis=1)].astype(np.float64)
    if not len(segments):
        return np.zeros(length // 2 + 1)
    waves = np.fft.rfft((segments - segments.mean(axis=1, keepdims=True)) * np.hanning(length), axis=1)
    return np.asarray((np.abs(waves) ** 2).mean(axis=0)) * len(segments)
