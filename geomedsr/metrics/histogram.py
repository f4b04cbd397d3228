"""Drift of the histogram: the first Wasserstein distance between the two sets of values, over the data range.

The mean distance by which values would have to be moved to turn one histogram into the other; places do not matter.
Each channel alone, then averaged.

Reference: Rubner, Tomasi, Guibas 2000, DOI 10.1023/A:1026543900054 (as the earth mover's distance)
"""

from __future__ import annotations

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "histogram drift", "%"
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images, in percent of the data range."""
    # As many values on both sides: the distance is that of the sorted ones.
    each = [float(np.abs(np.sort(x) - np.sort(y)).mean()) for x, y in pair.each_channel()]
    return 100 * float(np.mean(each)) / pair.data_range if each else None
