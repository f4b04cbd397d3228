"""Universal quality index: correlation, likeness of means and of contrasts in windows of 8 voxels, averaged.

Q = 4 cov(x, y) mean(x) mean(y) / ((var(x) + var(y)) (mean(x)^2 + mean(y)^2)) in each window that lies wholly inside
the image; each channel alone, then averaged. A window that is flat in both images has no Q and does not count.

Reference: Wang and Bovik 2002, DOI 10.1109/97.995823
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better
from geomedsr.metrics._windows import filtered

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "UQI", ""
BETTER: Better = "higher"

_WINDOW = 8
_FLAT = 1e-12


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None where no window counts."""
    x, y = pair.masked
    if min(x.shape[1:]) < _WINDOW:
        return None
    mx, my, mxx, myy, mxy = (_mean(z) for z in (x, y, x * x, y * y, x * y))
    contrast, level = mxx - mx**2 + myy - my**2, mx**2 + my**2
    counted = (contrast > _FLAT * level) & (level > 0)
    quality = np.divide(4 * (mxy - mx * my) * mx * my, contrast * level, out=np.full_like(mx, np.nan), where=counted)
    each = [float(np.nanmean(channel)) for channel in quality if np.isfinite(channel).any()]
    return float(np.mean(each)) if each else None


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in range(1, x.ndim):
        x = filtered(x, axis, np.full(_WINDOW, 1 / _WINDOW))
    return x
