"""Normalised root mean squared error: ||sr - hr|| / ||hr|| (the Euclidean norm, as in scikit-image's default).

Reference: Fienup 1997, DOI 10.1364/AO.36.008352
"""

from __future__ import annotations

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "NRMSE", ""
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images, over the voxels of all channels; None where the reference is 0 everywhere."""
    x, y = (image[pair.valid].astype(np.float64) for image in (pair.sr, pair.hr))
    norm = float(np.linalg.norm(y))
    return float(np.linalg.norm(x - y)) / norm if norm > 0 else None
