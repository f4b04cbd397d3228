"""What a module in this folder offers."""

from __future__ import annotations

from typing import Literal, Protocol

from geomedsr.metrics._compared import Compared

__all__ = ["Better", "Metric"]

Better = Literal["higher", "lower"]


class Metric(Protocol):
    """What a module in `geomedsr/metrics/` offers.

    UNITS are "image" (those of the voxels), "space" (those of the spacing), or as they are named.
    """

    LABEL: str
    UNITS: str
    BETTER: Better

    def measure(self, pair: Compared) -> float | None:
        """The figure of two images, or None where it has no meaning for them."""
        ...
