"""Relative average spectral error: 100 / (mean of all channels) sqrt(mean over channels of RMSE^2), in percent.

The figure of the whole image, as it was defined; torchmetrics and sewar average that of sliding windows.

Reference: Ranchin and Wald 2000, "Fusion of high spatial and spectral resolution images: the ARSIS concept and its
implementation", Photogrammetric Engineering and Remote Sensing 66, pages 49 to 61
"""

from __future__ import annotations

import math

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "RASE", "%"
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images; None for one channel, or where the mean is 0."""
    found = [(float(np.mean((x - y) ** 2)), float(y.mean())) for x, y in pair.each_channel()]
    if len(pair.sr) < 2 or not found:
        return None
    errors, means = zip(*found, strict=True)
    mean = float(np.mean(means))
    return 100 / mean * math.sqrt(np.mean(errors)) if mean != 0 else None
