"""The units of maps: what a network says of widths and surprise, as an image of its own."""

from __future__ import annotations

from dataclasses import dataclass

from geomedsr.data.intensity import Array, Intensity, IntensityRule
from geomedsr.image import Source

__all__ = ["Unitless", "Widened"]


@dataclass(frozen=True, slots=True)
class _Width(Intensity):
    """The map of an image whose way back is that of a difference: scaled, not shifted."""

    def invert(self, x: Array) -> Array:
        """Widths in the network's units to physical ones."""
        return x * self.scale


@dataclass(frozen=True, slots=True)
class _Number(Intensity):
    """The map of an image whose way back leaves numbers as they are."""

    def invert(self, x: Array) -> Array:
        """The numbers."""
        return x


class Widened(IntensityRule):
    """A model's rule for an output that holds widths."""

    def fit(self, source: Source) -> Intensity:
        """The map for one image."""
        found = IntensityRule.fit(self, source)
        return _Width(found.offset, found.scale)


class Unitless(IntensityRule):
    """A model's rule for an output that holds numbers without units."""

    def fit(self, source: Source) -> Intensity:
        """The map for one image."""
        found = IntensityRule.fit(self, source)
        return _Number(found.offset, found.scale)
