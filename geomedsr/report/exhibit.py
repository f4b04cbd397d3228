"""What a page shows of a pair: the whole of it as small as it must be, and a detail at full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from geomedsr.errors import GridError
from geomedsr.grid import Box
from geomedsr.image import Voxels
from geomedsr.report._view import Stretch, most_detailed
from geomedsr.report.layers import Companions, Layer, Levels, Scene, fine_channels, layers_of
from geomedsr.report.pair import Pair, shown_channels
from geomedsr.report.preview import Preview, preview, step_for

__all__ = ["PERCENTILES", "Exhibit", "exhibit"]

PERCENTILES = {2: (2.0, 98.0), 3: (0.5, 99.5)}
"""The percentiles of the input between which both images are drawn, by the number of axes: much of a volume is air."""

_MOST_CHANNELS = 8
_LOOK = 1 << 20
_WIDEST = 512


@dataclass(frozen=True)
class Exhibit:
    """A pair with all that is shown of it.

    `channels` are those of the result that can be looked at, `first` those that are at first: red, green and blue, or
    one. `stretch` has one pair of ends for each of `channels`, from the input.
    """

    pair: Pair
    channels: tuple[int, ...]
    first: tuple[int, ...]
    stretch: Stretch
    layers: list[Layer]
    scenes: list[Scene]
    levels: dict[str, Levels]

    @property
    def detail(self) -> Scene:
        """The scene at full resolution: the first one."""
        return self.scenes[0]


def exhibit(
    pair: Pair,
    companions: Companions,
    budget: int,
    bands: tuple[int, ...] | None = None,
    at: Sequence[int] | None = None,
) -> Exhibit:
    """What is shown of a pair in at most `budget` voxels; `at` is the middle of the detail in voxels of the input.

    Raises:
        GridError: `at` is outside.
    """
    first = bands or shown_channels(pair.names, pair.grids[0].ndim)
    channels = _looked_at(pair, first)
    layers = layers_of(pair, companions, channels)
    whole = Box.whole(pair.grids[0].shape)
    look = preview(pair.before, whole, step_for(whole.shape, _LOOK), pair.channels(0, channels))
    stretch = Stretch.fit(look.voxels, *PERCENTILES[pair.grids[0].ndim])
    scenes = []
    if fine_channels(layers) * math.prod(pair.grids[1].shape) > budget or at is not None:
        box = _detail(pair, layers, look, stretch, budget * 3 // 5, at)
        scenes.append(Scene.at_full_resolution("detail", "Detail", box, pair, layers))
        budget = budget * 2 // 5
    scenes.append(Scene.of("whole", "Whole image", whole, pair, layers, budget))
    levels = {layer.key: Levels.of(layer, scenes[0].previews[layer.key].voxels, stretch) for layer in layers}
    return Exhibit(pair, channels, first, stretch, layers, scenes, levels)


def _looked_at(pair: Pair, first: tuple[int, ...]) -> tuple[int, ...]:
    """The channels of a raster, those shown first among them; of a volume with frames the first one."""
    if pair.grids[0].ndim == 3:
        return first[:1]
    others = [i for i in range(len(pair.names)) if i not in first]
    return tuple(sorted((*first, *others[: max(0, _MOST_CHANNELS - len(first))])))


def _detail(
    pair: Pair, layers: list[Layer], look: Preview, stretch: Stretch, budget: int, at: Sequence[int] | None
) -> Box:
    """The box of the input whose part of every layer fits the budget: around `at`, or where most is to be seen."""
    shape = pair.grids[0].shape
    size = _size(pair, budget // fine_channels(layers))
    if at is None:
        at = _most_to_see(pair, look, stretch, size)
    elif len(at) != len(shape) or not all(0 <= a < n for a, n in zip(at, shape, strict=True)):
        found = ",".join(map(str, at))
        raise GridError(f"--at {found} is not inside the input, which has {' x '.join(map(str, shape))} voxels.")
    start = tuple(min(max(0, a - n // 2), m - n) for a, n, m in zip(at, size, shape, strict=True))
    return Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))


def _size(pair: Pair, most: int) -> tuple[int, ...]:
    """The largest box of the input, alike in length on all axes, that has at most `most` voxels of the result."""
    coarse, factor = pair.grids[0], pair.factor
    length = _WIDEST * min(pair.grids[1].spacing)
    while True:
        size = tuple(min(n, max(1, round(length / step))) for n, step in zip(coarse.shape, coarse.spacing, strict=True))
        if math.prod(n * f for n, f in zip(size, factor, strict=True)) <= most or max(size) == 1:
            return size
        length *= 0.97


def _most_to_see(pair: Pair, look: Preview, stretch: Stretch, size: tuple[int, ...]) -> tuple[int, ...]:
    """The middle of the window with most detail, in the middle plane of a volume."""
    view = pair.view
    bright = stretch.brightness(_middle_plane(look.voxels, pair))
    step = look.step[view.rows], look.step[view.columns]
    counts = [
        max(1, min(size[axis] // s, n))
        for axis, s, n in zip((view.rows, view.columns), step, bright.shape[1:], strict=True)
    ]
    corner = most_detailed(bright, (counts[0], counts[1]))
    at = [n // 2 for n in pair.grids[0].shape]
    for axis, start, s in zip((view.rows, view.columns), corner, step, strict=True):
        at[axis] = start * s + size[axis] // 2
    return tuple(at)


def _middle_plane(voxels: Voxels, pair: Pair) -> Voxels:
    view = pair.view
    plane = voxels if view.cut is None else voxels.take(voxels.shape[view.cut + 1] // 2, view.cut + 1)
    return plane.swapaxes(1, 2) if view.rows > view.columns else plane
