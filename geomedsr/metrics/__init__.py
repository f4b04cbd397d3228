"""How close two images are: one module a metric. The data range is always given, invalid voxels (NaN) never count.

A metric is found by its file. Each says what it is called, in which units it is, which way is better, and measures two
images that are `Compared`; None says that it has no meaning for such images (one channel, too few voxels, no red band).
"""

from __future__ import annotations

from functools import cache
from typing import cast

from geomedsr import registry
from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Metric
from geomedsr.metrics.psnr import psnr
from geomedsr.metrics.ssim import ssim

__all__ = ["Compared", "Metric", "all_metrics", "measured", "psnr", "ssim"]


@cache
def all_metrics() -> dict[str, Metric]:
    """Every metric by the name of its module, the best known first."""
    names = registry.names("metrics")
    first = [name for name in ("psnr", "ssim") if name in names]
    return {name: cast(Metric, registry.load("metrics", name)) for name in [*first, *sorted({*names} - {*first})]}


def measured(pair: Compared) -> dict[str, float]:
    """What every metric says of two images; those that say nothing are left out.

    Example:
        >>> import numpy as np
        >>> hr = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
        >>> round(measured(Compared(hr + 0.1, hr, data_range=1.0))["mae"], 3)
        0.1
    """
    found = {name: metric.measure(pair) for name, metric in all_metrics().items()}
    return {name: value for name, value in found.items() if value is not None}
