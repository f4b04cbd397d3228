"""Gradient magnitude similarity deviation: how unevenly gradients are kept; 0 where all are.

Both images are averaged over 2 voxels on each axis, gradients are Prewitt's, and the figure is the standard deviation
of (2 a b + c) / (a^2 + b^2 + c) over the image, a and b the gradients' magnitudes, c = 170 / 255^2 data_range^2. The
paper has 2 axes; on 3, Prewitt's average runs over both other axes, with the same c.

Reference: Xue et al. 2014, DOI 10.1109/TIP.2013.2293423
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better
from geomedsr.metrics._windows import averaged, filtered

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "GMSD", ""
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images, each channel alone, then averaged; None where there is no valid window."""
    if min(pair.masked[0].shape[1:]) < 6:
        return None
    a, b = (_magnitude(averaged(image, 2)) for image in pair.masked)
    c = 170 / 255**2 * pair.data_range**2
    similar = (2 * a * b + c) / (a**2 + b**2 + c)
    each = [float(channel[known].std()) for channel in similar if (known := np.isfinite(channel)).any()]
    return float(np.mean(each)) if each else None


def _magnitude(x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(1)
    for along in range(1, x.ndim):
        part = x
        for axis in range(1, x.ndim):
            # Prewitt's operator: a difference along one axis, a mean of three along the others.
            part = filtered(part, axis, (1 / 3, 0, -1 / 3) if axis == along else (1, 1, 1))
        total = total + (part / 3 ** (x.ndim - 3)) ** 2
    return np.asarray(np.sqrt(total))
