"""Mean absolute error: mean |sr - hr|, in the image's own units."""

from __future__ import annotations

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "MAE", "image"
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images, over the voxels of all channels."""
    difference = (pair.sr.astype(np.float64) - pair.hr)[pair.valid]
    return float(np.abs(difference).mean()) if difference.size else None
