"""High-frequency error norm: ||L sr - L hr|| / ||L hr||, L the Laplacian of a Gaussian of 1.5 voxels, 15 taps wide.

Only places count whose 15 voxels on each axis lie inside the image and are valid.

Reference: Ravishankar and Bresler 2011, DOI 10.1109/TMI.2010.2090538
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better
from geomedsr.metrics._windows import filtered, gaussian

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "HFEN", ""
BETTER: Better = "lower"

_SIGMA, _RADIUS = 1.5, 7


def measure(pair: Compared) -> float | None:
    """The figure of two images, over all channels; None where no place counts, or the reference is flat."""
    x, y = pair.masked
    if min(x.shape[1:]) < 2 * _RADIUS + 1:
        return None
    fine, true = _laplacian(x), _laplacian(y)
    norm = float(np.sqrt(np.nansum(true**2)))
    return float(np.sqrt(np.nansum((fine - true) ** 2))) / norm if norm > 0 else None


def _laplacian(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over the axes of the second derivative of a Gaussian along one and a Gaussian along the others."""
    smooth = gaussian(_SIGMA, _RADIUS)
    place = np.arange(-_RADIUS, _RADIUS + 1)
    curved = smooth * (place**2 - _SIGMA**2) / _SIGMA**4
    curved -= curved.mean()  # a constant has no detail, though the kernel is cut
    total = np.zeros(1)
    for bent in range(1, x.ndim):
        part = x
        for axis in range(1, x.ndim):
            part = filtered(part, axis, curved if axis == bent else smooth)
        total = total + part
    return np.asarray(total)
