"""Structural similarity over five octaves: contrast and structure of each, luminance of the coarsest.

Images too small for five octaves use as many as fit, the weights scaled to sum to 1; such a figure compares with that
of images of about the same size only.

Reference: Wang, Simoncelli, Bovik 2003, DOI 10.1109/ACSSC.2003.1292216
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better
from geomedsr.metrics._windows import averaged
from geomedsr.metrics.ssim import WINDOW, similarity

__all__ = ["BETTER", "LABEL", "UNITS", "measure"]

LABEL, UNITS = "MS-SSIM", ""
BETTER: Better = "higher"

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The paper's weight of each octave, finest first."""


def measure(pair: Compared) -> float | None:
    """The figure of two images, or None where no valid window fits.

    Each channel alone, then averaged; a negative octave counts as 0, as it has no fractional power.
    """
    octaves = _octaves(pair)
    if not octaves:
        return None
    share = sum(_WEIGHTS[: len(octaves)])
    total = torch.ones(len(pair.sr), dtype=torch.float64)
    for weight, (luminance, structure) in zip(_WEIGHTS, octaves, strict=False):
        seen = luminance * structure if structure is octaves[-1][1] else structure
        total = total * seen.flatten(1).nanmean(dim=1).clamp(min=0) ** (weight / share)
    return float(total.nanmean())


def _octaves(pair: Compared) -> list[tuple[Tensor, Tensor]]:
    """Luminance and structure of each octave that has a valid window, finest first."""
    x, y = pair.masked
    found: list[tuple[Tensor, Tensor]] = []
    while len(found) < len(_WEIGHTS) and min(x.shape[1:]) >= WINDOW:
        maps = similarity(torch.from_numpy(x), torch.from_numpy(y), pair.data_range)
        if not bool(maps[0].isfinite().any()):
            break
        found.append(maps)
        x, y = averaged(x, 2), averaged(y, 2)
    return found
