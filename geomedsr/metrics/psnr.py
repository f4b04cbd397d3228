"""Peak signal-to-noise ratio: 10 log10(data_range^2 / mean squared error), over the voxels of all channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure", "psnr"]

LABEL, UNITS = "PSNR", "dB"
BETTER: Better = "higher"


def psnr(sr: NDArray[np.float32], hr: NDArray[np.float32], data_range: float) -> float:
    """Peak signal-to-noise ratio.

    Shape: (C, *S) both
    Units: dB

    Example:
        >>> a = np.zeros((1, 8, 8), np.float32)
        >>> round(psnr(a, a + 0.1, data_range=1.0), 3)
        20.0
    """
    difference = sr.astype(np.float64) - hr
    error = float(np.mean(np.square(difference[np.isfinite(difference)])))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def measure(pair: Compared) -> float | None:
    """The figure of two images."""
    return psnr(pair.sr, pair.hr, pair.data_range) if pair.valid.any() else None
