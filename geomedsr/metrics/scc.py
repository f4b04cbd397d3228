"""Spatial cross-correlation: the correlation of what a Laplacian (8 or 26 neighbours) leaves of both images.

Each channel alone, then averaged; only voxels count whose neighbours all lie inside and are valid. As in the paper it
is one correlation over the image; torchmetrics and sewar average that of windows.

Reference: Zhou, Civco, Silander 1998, DOI 10.1080/014311698215973
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better
from geomedsr.metrics._windows import filtered

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "sCC", ""
BETTER: Better = "higher"


def measure(pair: Compared) -> float | None:
    """The figure of two images; None where no voxel counts, or one of them is flat."""
    if min(pair.masked[0].shape[1:]) < 3:
        return None
    each = []
    for x, y in zip(*(_detail(image) for image in pair.masked), strict=True):
        known = np.isfinite(x)
        if known.sum() > 1 and x[known].std() > 0 and y[known].std() > 0:
            each.append(float(np.corrcoef(x[known], y[known])[0, 1]))
    return float(np.mean(each)) if each else None


def _detail(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each voxel's own share of its neighbourhood: 3^n times itself less the sum over all of it."""
    around = x
    for axis in range(1, x.ndim):
        around = filtered(around, axis, (1, 1, 1))
    inner = x[(slice(None), *(slice(1, -1),) * (x.ndim - 1))]
    return np.asarray(3 ** (x.ndim - 1) * inner - around)
