"""Pictures of an image before and after, as PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.grid import Box
from geomedsr.image import Source, Voxels
from geomedsr.io._staging import Staging, write_errors
from geomedsr.report._view import Stretch, enlarged, most_detailed, read_plane
from geomedsr.report.pair import Pair, shown_channels

if TYPE_CHECKING:
    from PIL import Image as Picture
    from PIL import ImageDraw

__all__ = ["before_after"]

_LONGEST = 900
_NARROWEST = 420
_ZOOMED = 48
_MARGIN, _LINE = 24, 30
_PAPER, _INK, _FAINT, _MARK = (18, 20, 24), (238, 238, 238), (160, 166, 176), (255, 196, 61)


def before_after(
    before: Source,
    after: Source,
    path: Path,
    *,
    title: str = "",
    labels: tuple[str, str] = ("input", "result"),
    region: Box | None = None,
    bands: tuple[int, ...] | None = None,
) -> Path:
    """A PNG with the input on the left and the result on the right, below each a part of it enlarged.

    A volume is shown by its middle plane, with the body's sides named where the file says them; a raster by three
    channels. Both sides have one stretch, fitted to the input, and every voxel is drawn as it is: nothing is
    interpolated. `region` is the box of the input to enlarge (the most detailed one unless given), `bands` are the
    channels of the result for red, green and blue, or one for grey (red, green and blue by name unless given).
    Memory is bounded whatever the images' size: a large plane is read in strips and averaged to the picture's size.

    Raises:
        GridError: the result is no whole multiple of the input, or the region is not inside the input.
        OutputError: the picture's folder is missing or read-only.
    """
    pair = Pair.of(before, after)
    shown = bands or shown_channels(after.spec.channels, after.spec.grid.ndim)
    figure = _Figure(pair, shown, labels, title, region)
    staging = Staging(path)
    try:
        with write_errors(path):
            figure.drawn().save(staging.path, format="PNG")
        staging.publish()
    finally:
        staging.discard()
    return path


class _Figure:
    """Two panels side by side, and below them the same region of both enlarged."""

    def __init__(
        self, pair: Pair, shown: tuple[int, ...], labels: tuple[str, str], title: str, region: Box | None
    ) -> None:
        self.pair, self.shown, self.labels, self.title = pair, shown, labels, title
        self.whole = Box.whole(pair.view.counts(pair.grids[0]))
        width, height = self._panel()
        self.column = max(width, _NARROWEST)
        self.panel, self.inset = (width, height), (self.column, round(0.62 * self.column))
        view = pair.view
        overview, step = read_plane(pair.before, view, pair.planes[0], pair.channels(0, shown), self.whole, _LONGEST)
        self.stretch = Stretch.fit(overview, *((2.0, 98.0) if view.cut is None else (0.5, 99.5)))
        self.region = self._zoom(overview, step) if region is None else pair.check_region(region)

    def _panel(self) -> tuple[int, int]:
        """Width and height of a panel: a whole number of pixels for a voxel of the result where that is possible."""
        view, grid = self.pair.view, self.pair.grids[1]
        (rows, columns), (down, across) = view.counts(grid), view.spacing(grid)
        size = rows * down / across, float(columns)
        scale = _LONGEST / max(size)
        scale = math.floor(scale) if scale >= 1 else scale
        return max(1, round(columns * scale)), max(1, round(size[0] * scale))

    def _zoom(self, overview: Voxels, step: int) -> Box:
        """The most detailed window of the input, in voxels of the input."""
        rows, columns = self.whole.shape
        down, across = self.pair.view.spacing(self.pair.grids[0])
        width = min(_ZOOMED, columns)
        height = min(max(1, round(width * across / down * self.inset[1] / self.inset[0])), rows)
        size = tuple(max(1, min(n // step, m)) for n, m in zip((height, width), overview.shape[1:], strict=True))
        row, column = most_detailed(self.stretch.brightness(overview), (size[0], size[1]))
        start = min(row * step, rows - height), min(column * step, columns - width)
        return Box(start, (start[0] + height, start[1] + width))

    def drawn(self) -> Picture.Image:
        """The whole picture."""
        from PIL import Image as Picture
        from PIL import ImageDraw

        top = _MARGIN + 2 * _LINE
        below = top + self.panel[1] + _MARGIN
        size = (2 * self.column + 3 * _MARGIN, below + self.inset[1] + _MARGIN)
        picture = Picture.new("RGB", size, _PAPER)
        pen = ImageDraw.Draw(picture)
        _write(pen, (_MARGIN, _MARGIN), self._heading(), _INK, 20)
        for which in (0, 1):
            left = _MARGIN + which * (self.column + _MARGIN)
            _write(pen, (left, _MARGIN + _LINE), self._caption(which), _FAINT, 16)
            self._draw_panel(picture, pen, which, (left + (self.column - self.panel[0]) // 2, top))
            self._draw_inset(picture, pen, which, (left, below))
        return picture

    def _heading(self) -> str:
        view, source = self.pair.view, self.pair.sources[1]
        shown = ", ".join(source.spec.channels[i] for i in self.shown)
        if view.cut is not None:
            count = self.pair.grids[0].shape[view.cut]
            shown = f"plane {self.pair.planes[0] + 1} of {count} on axis {view.cut + 1}"
        return f"{self.title}   {shown}" if self.title else shown

    def _caption(self, which: int) -> str:
        grid = self.pair.grids[which]
        spacing = " x ".join(f"{value:.4g}" for value in grid.spacing)
        shape = " x ".join(str(n) for n in grid.shape)
        return f"{self.labels[which]}: {spacing} {grid.units}, {shape} voxels".replace(" ,", ",")

    def _draw_panel(self, picture: Picture.Image, pen: ImageDraw.ImageDraw, which: int, at: tuple[int, int]) -> None:
        self._paste(picture, which, self.whole, at, self.panel)
        width, height = self.panel
        frame = self._frame()
        pen.rectangle((at[0] + frame[0], at[1] + frame[1], at[0] + frame[2], at[1] + frame[3]), outline=_MARK, width=2)
        if self.pair.view.ends:
            up, down, left, right = self.pair.view.ends
            _write(pen, (at[0] + width // 2, at[1] + 4), up, _INK, 18, "mt")
            _write(pen, (at[0] + width // 2, at[1] + height - 4), down, _INK, 18, "mb")
            _write(pen, (at[0] + 6, at[1] + height // 2), left, _INK, 18, "lm")
            _write(pen, (at[0] + width - 6, at[1] + height // 2), right, _INK, 18, "rm")
        self._draw_scale(pen, (at[0], at[1] + height), width / self.whole.shape[1])

    def _draw_inset(self, picture: Picture.Image, pen: ImageDraw.ImageDraw, which: int, at: tuple[int, int]) -> None:
        (rows, columns), (down, across) = self.region.shape, self.pair.view.spacing(self.pair.grids[0])
        scale = min(self.inset[0] / columns, self.inset[1] / (rows * down / across))
        size = max(1, round(columns * scale)), max(1, round(rows * down / across * scale))
        at = at[0] + (self.inset[0] - size[0]) // 2, at[1]
        self._paste(picture, which, self.region, at, size)
        pen.rectangle((at[0], at[1], at[0] + size[0] - 1, at[1] + size[1] - 1), outline=_MARK, width=2)
        self._draw_scale(pen, (at[0], at[1] + size[1]), scale)

    def _paste(
        self, picture: Picture.Image, which: int, window: Box, at: tuple[int, int], size: tuple[int, int]
    ) -> None:
        from PIL import Image as Picture

        pixels = self.pair.pixels(which, self.shown, self.pair.scaled(window)[which], self.stretch, _LONGEST)
        turned = self.pair.view.oriented(enlarged(pixels, size[1], size[0]))
        picture.paste(Picture.fromarray(turned.copy()), at)

    def _frame(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the enlarged region in a panel, in pixels."""
        edges = []
        for axis, (length, turned) in enumerate(zip(self.panel[::-1], self.pair.view.turned, strict=True)):
            count = self.whole.shape[axis]
            ends = [end * length / count for end in (self.region.start[axis], self.region.stop[axis])]
            edges.append([length - ends[1], length - ends[0]] if turned else ends)
        (top, bottom), (left, right) = edges
        return round(left), round(top), max(round(left), round(right) - 1), max(round(top), round(bottom) - 1)

    def _draw_scale(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], scale: float) -> None:
        """A bar of a round length at the lower left, where the file says its units."""
        grid = self.pair.grids[0]
        if not grid.units:
            return
        pixels = scale / self.pair.view.spacing(grid)[1]
        length = _rounded(110 / pixels)
        left, bottom = corner[0] + 14, corner[1] - 14
        pen.rectangle((left - 1, bottom - 5, left + round(length * pixels) + 1, bottom + 1), fill=_PAPER)
        pen.rectangle((left, bottom - 4, left + round(length * pixels), bottom), fill=_INK)
        _write(pen, (left, bottom - 9), f"{length:g} {grid.units}", _INK, 16, "lb")


def _rounded(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above a length."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    size: int,
    anchor: str = "lt",
) -> None:
    """Text with a dark rim, legible on any image."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    pen.text(at, text, fill=colour, font=font, anchor=anchor, stroke_width=2, stroke_fill=_PAPER)
