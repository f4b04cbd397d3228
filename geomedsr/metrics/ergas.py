"""Relative dimensionless global error: 100 / factor sqrt(mean over channels of (RMSE / mean)^2).

`factor` is how many times finer the image is than what it was made from (the mean of its axes that changed).

Reference: Wald 2000, "Quality of high resolution synthesised images: is there a simple criterion?", pages 99 to 105 of
Fusion of Earth Data
"""

from __future__ import annotations

import math

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "ERGAS", ""
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images; None for one channel, an unknown factor or a channel whose mean is 0."""
    changed = [f for f in pair.factor if f > 1]
    if len(pair.sr) < 2 or not changed:
        return None
    shares = []
    for x, y in pair.each_channel():
        if (mean := float(y.mean())) == 0:
            return None
        shares.append(float(np.mean((x - y) ** 2)) / mean**2)
    return 100 / (sum(changed) / len(changed)) * math.sqrt(np.mean(shares)) if shares else None
