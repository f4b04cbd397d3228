"""Drift of the vegetation index: mean |NDVI(sr) - NDVI(hr)|, NDVI = (nir - red) / (nir + red).

Red and near infrared are found by the channels' names (B4 or red, B8 or nir). A voxel counts where both images are
valid and reflect something, nir + red > 0.

Reference: Rouse et al. 1974, "Monitoring vegetation systems in the Great Plains with ERTS", NASA SP-351, pages 309-317
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure", "ndvi", "red_and_nir"]

LABEL, UNITS = "NDVI drift", ""
BETTER: Better = "lower"

_RED = re.compile(r"(b0?4\b|red$|red\W|.*\Wred\b)", re.IGNORECASE)
_NIR = re.compile(r"(b0?8\b|nir$|nir\W|.*\Wnir\b)", re.IGNORECASE)


def red_and_nir(channels: tuple[str, ...]) -> tuple[int, int] | None:
    """Which channels are red and near infrared, or None where not one each is.

    Example:
        >>> red_and_nir(("B02", "B03", "B04", "B08"))
        (2, 3)
        >>> red_and_nir(("B8A", "red edge 1", "red"))
    """
    found = [[i for i, name in enumerate(channels) if _is(name, kind)] for kind in (_RED, _NIR)]
    return (found[0][0], found[1][0]) if all(len(one) == 1 for one in found) else None


def _is(name: str, kind: re.Pattern[str]) -> bool:
    narrow = re.search(r"edge|narrow|b0?8a", name, re.IGNORECASE)
    return narrow is None and kind.match(name.strip()) is not None


def ndvi(red: NDArray[np.floating], nir: NDArray[np.floating]) -> NDArray[np.float64]:
    """The index of each voxel, NaN where nothing is reflected."""
    total = nir.astype(np.float64) + red
    index = np.full(total.shape, np.nan)
    return np.asarray(np.divide(nir.astype(np.float64) - red, total, out=index, where=total > 0))


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None where the bands are not known or no voxel counts."""
    places = red_and_nir(pair.channels)
    if places is None:
        return None
    red, nir = places
    drift = np.abs(ndvi(pair.sr[red], pair.sr[nir]) - ndvi(pair.hr[red], pair.hr[nir]))
    return float(np.nanmean(drift)) if np.isfinite(drift).any() else None
