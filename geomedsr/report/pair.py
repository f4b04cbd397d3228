"""An image before and after, seen alike: which plane, which channels, and where both are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomedsr.errors import GridError
from geomedsr.grid import Box, Factor, Grid
from geomedsr.image import Source
from geomedsr.report._view import Pixels, Stretch, View, read_plane

__all__ = ["Pair", "shown_channels"]

_RED, _GREEN, _BLUE = ("red", "b4", "b04"), ("green", "b3", "b03"), ("blue", "b2", "b02")


@dataclass(frozen=True)
class Pair:
    """The input and the result.

    `matched` says of each of the result's channels which of the input's it came from, `names` what it is called.
    """

    before: Source
    after: Source
    factor: Factor
    view: View
    matched: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        before: Source,
        after: Source,
        matched: tuple[int, ...] | None = None,
        names: tuple[str, ...] | None = None,
    ) -> Pair:
        """The pair with its plane; channels of the same name belong together, and have the file's names, unless told.

        Raises:
            GridError: the result is no whole multiple of the input.
        """
        factor = after.spec.grid.ratio_to(before.spec.grid)
        known, called = before.spec.channels, after.spec.channels
        # The result may have fewer channels than the input: those of the same name belong together.
        same = tuple(known.index(name) if name in known else min(i, len(known) - 1) for i, name in enumerate(called))
        return cls(before, after, factor, View.of(before.spec, factor), matched or same, names or after.spec.channels)

    @property
    def sources(self) -> tuple[Source, Source]:
        """Both."""
        return self.before, self.after

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """The grids of both."""
        return self.before.spec.grid, self.after.spec.grid

    @property
    def planes(self) -> tuple[int, int]:
        """The index of the shown plane on the cut axis of both: the middle of the input, and the same place."""
        if self.view.cut is None:
            return 0, 0
        middle, times = self.grids[0].shape[self.view.cut] // 2, self.factor[self.view.cut]
        return middle, middle * times + times // 2

    @property
    def corner_error(self) -> float:
        """How far the corners of both are apart, at most, in voxels of the result."""
        before, after = self.grids
        return float(np.abs(before.corners - after.corners).max() / min(after.spacing))

    def channels(self, which: int, shown: tuple[int, ...]) -> tuple[int, ...]:
        """The channels of one of both that belong to those of the result."""
        return shown if which else tuple(self.matched[channel] for channel in shown)

    def scaled(self, window: Box) -> tuple[Box, Box]:
        """A window of the input's plane in voxels of both."""
        return window, window.scaled((self.factor[self.view.rows], self.factor[self.view.columns]))

    def pixels(self, which: int, shown: tuple[int, ...], window: Box, stretch: Stretch, longest: int) -> Pixels:
        """A window of the shown plane of one of both as a picture, at most as large as is drawn."""
        voxels, _ = read_plane(
            self.sources[which], self.view, self.planes[which], self.channels(which, shown), window, longest
        )
        return stretch.pixels(voxels)

    def check_region(self, region: Box) -> Box:
        """A region of the input, as a window of the shown plane.

        Raises:
            GridError: it is not inside the input.
        """
        grid = self.grids[0]
        if region.ndim != grid.ndim or not Box.whole(grid.shape).contains(region) or region.size == 0:
            raise GridError(f"The region {region.start} to {region.stop} is not inside the input of {grid.shape}.")
        return self.view.window(region)


def shown_channels(names: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    """Red, green and blue by name, else the first three channels of a raster, else the first."""
    lower = [name.lower() for name in names]
    found = [next((lower.index(name) for name in colour if name in lower), None) for colour in (_RED, _GREEN, _BLUE)]
    if None not in found:
        return tuple(index for index in found if index is not None)
    return (0, 1, 2) if ndim == 2 and len(names) >= 3 else (0,)
