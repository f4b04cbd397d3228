"""Spectral angle: the mean over voxels of the angle between the two spectra, arccos(<x, y> / (|x| |y|)), in degrees.

A voxel counts where all channels are valid and neither spectrum is all zeros, which has no direction.

Reference: Yuhas, Goetz, Boardman 1992, "Discrimination among semi-arid landscape endmembers using the spectral angle
mapper (SAM) algorithm", JPL Publication 92-14
"""

from __future__ import annotations

import numpy as np

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "SAM", "degree"
BETTER: Better = "lower"


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None for one channel alone."""
    if len(pair.sr) < 2:
        return None
    x, y = pair.vectors
    lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    known = lengths > 0
    if not known.any():
        return None
    cosine = (x * y).sum(axis=0)[known] / lengths[known]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
