"""A landscape as a satellite with four bands sees it: fields, tracks, a wood, a river, a lake, a village, a motorway.

Nothing here is a place: parcels are cut at random, rivers are sums of waves, houses are rectangles along streets. It
is painted on cells of 2.5 m, in reflectance of blue, green, red and near infrared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sample_data.noise import Floats, fractal, shell

CELL = 2.5
"""The edge of a cell of the simulation, in m."""

VILLAGE = (2550.0, 2450.0)
TURN = float(np.deg2rad(26.0))
"""Where the village is, in m, and how its streets are turned."""

Spectrum = tuple[float, float, float, float]

CROPS: tuple[tuple[str, float, Spectrum, Spectrum], ...] = (
    # name, share, spectrum of the plant cover, spectrum of what shows between the plants
    ("wheat", 0.22, (0.028, 0.058, 0.036, 0.44), (0.07, 0.09, 0.12, 0.17)),
    ("maize", 0.14, (0.026, 0.062, 0.030, 0.50), (0.075, 0.10, 0.13, 0.19)),
    ("rape", 0.08, (0.050, 0.130, 0.098, 0.46), (0.035, 0.07, 0.05, 0.38)),
    ("meadow", 0.18, (0.036, 0.075, 0.052, 0.36), (0.055, 0.09, 0.09, 0.26)),
    ("ripe", 0.12, (0.075, 0.115, 0.155, 0.30), (0.095, 0.14, 0.19, 0.31)),
    ("dark soil", 0.12, (0.058, 0.077, 0.098, 0.14), (0.072, 0.095, 0.122, 0.17)),
    ("pale soil", 0.07, (0.105, 0.145, 0.190, 0.25), (0.090, 0.122, 0.158, 0.21)),
    ("alfalfa", 0.07, (0.024, 0.060, 0.026, 0.55), (0.040, 0.075, 0.055, 0.38)),
)
WATER: Spectrum = (0.042, 0.052, 0.036, 0.014)
POND: Spectrum = (0.026, 0.031, 0.021, 0.009)
GRAVEL: Spectrum = (0.14, 0.17, 0.20, 0.25)
ASPHALT: Spectrum = (0.082, 0.092, 0.101, 0.135)
TRACK: Spectrum = (0.115, 0.150, 0.190, 0.260)
TREES: Spectrum = (0.019, 0.038, 0.021, 0.33)
CONIFER: Spectrum = (0.015, 0.026, 0.016, 0.20)
GARDEN: Spectrum = (0.042, 0.070, 0.056, 0.29)
SHADE: Spectrum = (0.022, 0.026, 0.024, 0.055)
ROOFS: tuple[Spectrum, ...] = (
    (0.075, 0.100, 0.175, 0.24),
    (0.085, 0.120, 0.215, 0.29),
    (0.095, 0.105, 0.115, 0.15),
    (0.150, 0.160, 0.168, 0.21),
)
HALLS: tuple[Spectrum, ...] = ((0.34, 0.35, 0.35, 0.38), (0.23, 0.24, 0.24, 0.28), (0.14, 0.17, 0.18, 0.22))


@dataclass
class Canvas:
    """The landscape while it is painted: reflectance (4, rows, columns), and where each cell is, in m."""

    bands: Floats
    x: Floats
    y: Floats
    rng: np.random.Generator

    @classmethod
    def blank(cls, rows: int, columns: int, rng: np.random.Generator) -> Canvas:
        """An empty landscape; x runs to the right, y down."""
        y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
        bands = np.zeros((4, rows, columns), dtype=np.float32)
        return cls(bands, (x * CELL).astype(np.float32), (y * CELL).astype(np.float32), rng)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bands.shape[1], self.bands.shape[2]

    def paint(self, spectrum: Spectrum | Floats, amount: Floats, where: tuple[slice, slice] | None = None) -> None:
        """Replaces `amount` (0 to 1) of each cell by a spectrum."""
        index = (slice(None), *(where or (slice(None), slice(None))))
        colour = np.asarray(spectrum, dtype=np.float32)
        colour = colour.reshape(4, 1, 1) if colour.ndim == 1 else colour
        self.bands[index] += (colour - self.bands[index]) * amount

    def fractal(self, longest: float, slope: float = 1.8) -> Floats:
        """Fractal noise; `longest` in m."""
        return fractal(self.shape, longest / CELL, self.rng, slope)

    def shell(self, wavelength: float, spread: float = 0.25) -> Floats:
        """Noise of one wavelength in m."""
        return shell(self.shape, wavelength / CELL, self.rng, spread)


def cover(distance: NDArray[np.floating[Any]], soft: float = CELL) -> Floats:
    """How much of a cell lies inside an edge: 1 where the distance (m) is well below zero."""
    return np.asarray(np.clip(0.5 - distance / soft, 0, 1), dtype=np.float32)


def landscape(rows: int, columns: int, seed: int) -> Floats:
    """The reflectance of the whole landscape.

    Shape: (4, rows, columns), cells of 2.5 m.
    """
    canvas = Canvas.blank(rows, columns, np.random.default_rng(seed))
    relief = canvas.fractal(1500.0, 2.0)
    _fields(canvas)
    _wood(canvas, relief)
    _motorway(canvas)
    _village(canvas)
    _river(canvas)
    _lake(canvas)
    sun = np.gradient(relief, axis=1) - np.gradient(relief, axis=0)
    canvas.bands *= 1 + 0.05 * np.clip(sun / sun.std(), -3, 3)
    return np.clip(canvas.bands, 0.003, 1.0)


def _fields(canvas: Canvas) -> None:
    """Parcels in blocks of one direction each, with tracks between the blocks."""
    x = canvas.x + 22 * canvas.shell(900)
    y = canvas.y + 22 * canvas.shell(900)
    count = 13
    extent = (canvas.x.max(), canvas.y.max())
    seeds = canvas.rng.uniform((-200, -200), (extent[0] + 200, extent[1] + 200), (count, 2))
    squared = np.stack([(x - sx) ** 2 + (y - sy) ** 2 for sx, sy in seeds]).astype(np.float32)
    block, second = np.argsort(squared, axis=0)[:2]
    between = np.take_along_axis(squared, second[None], 0)[0] - np.take_along_axis(squared, block[None], 0)[0]
    border = between / (2 * np.hypot(*(seeds[second] - seeds[block]).transpose(2, 0, 1)))
    soil = canvas.fractal(900.0, 1.5)
    fine = canvas.fractal(60.0, 1.2)
    hedge = canvas.shell(11.0)
    for index in range(count):
        inside = block == index
        if inside.any():
            _block(canvas, inside, x[inside], y[inside], (soil[inside], fine[inside], hedge[inside]))
    canvas.paint(TRACK, 0.85 * cover(border - 3.5))


def _block(
    canvas: Canvas, inside: NDArray[np.bool_], x: Floats, y: Floats, noise: tuple[Floats, Floats, Floats]
) -> None:
    """The parcels of a block: strips of random width, each cut at random lengths."""
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    mean = rng.choice([60.0, 110.0, 170.0, 240.0])
    strip, to_side = _cut(u, mean, rng)
    values = np.empty((4, x.size), dtype=np.float32)
    for number in np.unique(strip):
        chosen = strip == number
        piece, to_end = _cut(v[chosen], mean * rng.uniform(1.6, 3.2), rng)
        part = np.empty((4, piece.size), dtype=np.float32)
        for name in np.unique(piece):
            field = piece == name
            place = (u[chosen][field], v[chosen][field], to_side[chosen][field], to_end[field])
            part[:, field] = _crop(place, tuple(n[chosen][field] for n in noise), rng)
        values[:, chosen] = part
    canvas.bands[:, inside] = values


def _cut(u: Floats, mean: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Which interval of random lengths each place is in, and its distance to the interval's nearer end, in m."""
    start, stop = float(u.min()) - mean * rng.uniform(0.1, 0.9), float(u.max())
    lengths = mean * rng.uniform(0.55, 1.6, int((stop - start) / (0.5 * mean)) + 4)
    cuts = start + np.concatenate([[0.0], np.cumsum(lengths)])
    index = np.searchsorted(cuts, u, side="right") - 1
    return index, np.minimum(u - cuts[index], cuts[index + 1] - u).astype(np.float32)


def _crop(place: tuple[Floats, Floats, Floats, Floats], noise: tuple[Floats, ...], rng: np.random.Generator) -> Floats:
    """The reflectance of one parcel: rows along its length, tramlines, a headland, bare patches, sometimes a hedge."""
    u, v, to_side, to_end = place
    soil, fine, hedge = noise
    kind = rng.choice(len(CROPS), p=np.array([share for _, share, _, _ in CROPS]))
    plant, between = (np.array(spectrum, dtype=np.float32)[:, None] for spectrum in CROPS[kind][2:])
    vigour = rng.uniform(0.62, 0.98) + 0.10 * soil + 0.05 * fine
    pass_width = rng.choice([12.0, 18.0, 24.0])
    phase = np.where(to_end < pass_width, v, u)
    rows = np.sin(2 * np.pi * phase / rng.choice([6.0, 9.0, 12.0]) + 1.3 * fine)
    vigour = vigour + rng.uniform(0.02, 0.12) * rows
    tram = cover(np.abs((phase / (2 * pass_width)) % 1 - 0.5) * 2 * pass_width - 1.6)
    vigour = vigour - rng.choice([0.0, 0.25, 0.4]) * tram - 0.12 * cover(to_end - pass_width, 6.0)
    vigour = np.clip(vigour, 0.0, 1.15)
    gain = rng.uniform(0.88, 1.12) * (1 + 0.035 * fine)
    values = (between + (plant - between) * vigour) * gain
    edge = cover(np.minimum(to_side, to_end) - 1.6)
    values = values + (np.array(GARDEN, dtype=np.float32)[:, None] - values) * (0.7 * edge)
    if rng.random() < 0.28:
        trees = cover(to_side - 4.5 - 2.0 * hedge) * cover(-hedge - 0.4, 0.8)
        values = values + (np.array(TREES, dtype=np.float32)[:, None] * (1 + 0.25 * fine) - values) * trees
    return np.asarray(values, dtype=np.float32)


def _wood(canvas: Canvas, relief: Floats) -> None:
    """Woods on the heights: crowns lit from one side, stands of two kinds, rides and clearings."""
    extent = float(canvas.x.max())
    height = relief + 1.1 * np.exp(-((canvas.x - 0.16 * extent) ** 2 + (canvas.y - 0.78 * extent) ** 2) / 6e5) * 2
    amount = cover((1.45 - height + 0.06 * canvas.fractal(120.0, 1.4)) * 160.0, 6.0)
    crowns = canvas.shell(9.0, 0.3) + 0.7 * canvas.shell(15.0, 0.3)
    lit = np.gradient(crowns, axis=1) - np.gradient(crowns, axis=0)
    shade = np.clip(1 + 0.30 * lit / lit.std() + 0.12 * crowns, 0.35, 1.8)
    stand = cover(-(canvas.fractal(500.0, 1.7) + 0.1) * 120.0, 10.0)
    kinds = [np.array(s, dtype=np.float32)[:, None, None] for s in (TREES, CONIFER)]
    colour = (kinds[0] + (kinds[1] - kinds[0]) * stand) * shade
    colour[3] *= 1 + 0.10 * canvas.fractal(200.0, 1.5)
    ride = np.abs(((canvas.x * 0.94 + canvas.y * 0.34 + 14 * canvas.shell(700)) / 330) % 1 - 0.5) * 330
    clearing = cover((1.35 - canvas.shell(420.0)) * 110.0, 8.0)
    amount = amount * (1 - 0.75 * cover(ride - 3.2)) * (1 - 0.85 * clearing)
    canvas.paint(colour, amount)


def _river_distance(canvas: Canvas) -> Floats:
    """The distance to the river's middle line, in m."""
    x, y = canvas.x, canvas.y
    bends = 210 * np.sin(x / 430 + 0.6) + 90 * np.sin(x / 190 + 2.1) + 26 * np.sin(x / 83)
    slope = 210 / 430 * np.cos(x / 430 + 0.6) + 90 / 190 * np.cos(x / 190 + 2.1) + 26 / 83 * np.cos(x / 83)
    return np.asarray(np.abs(y - 1150 - 0.16 * x - bends) / np.sqrt(1 + (slope + 0.16) ** 2), dtype=np.float32)


def _river(canvas: Canvas) -> None:
    """Water between bars of gravel and a fringe of trees."""
    distance = _river_distance(canvas)
    width = 27 + 7 * canvas.shell(420.0)
    crowns = canvas.shell(12.0)
    trees = cover(distance - width - 20 - 13 * canvas.shell(90.0)) * cover(-crowns - 0.7, 0.9)
    canvas.paint(np.array(TREES, dtype=np.float32)[:, None, None] * (1.05 + 0.25 * crowns), trees)
    canvas.paint(GRAVEL, 0.9 * cover(distance - width - 9 * canvas.shell(170.0)))
    water = np.array(WATER, dtype=np.float32)[:, None, None] * (1 + 0.05 * canvas.fractal(80.0))
    canvas.paint(water, cover(distance - width + 2))
    _bridge(canvas, distance)


def _bridge(canvas: Canvas, distance: Floats) -> None:
    """The village's road over the river."""
    road = _village_axes(canvas)[0] - 38
    canvas.paint(ASPHALT, cover(np.abs(road) - 5.0) * cover(distance - 60) * (canvas.y < 2450))


def _lake(canvas: Canvas) -> None:
    """A lake with a reed belt, darker where it is deep."""
    shore = np.hypot((canvas.x - 3680) / 1.35, canvas.y - 760) - 255 - 55 * canvas.shell(430.0) - 9 * canvas.shell(70.0)
    canvas.paint(GARDEN, 0.8 * cover(shore - 16, 8.0))
    deep = np.array(POND, dtype=np.float32)[:, None, None] * (1 + 0.4 * np.exp(np.minimum(shore, 0) / 30))
    canvas.paint(deep, cover(shore))


def _motorway(canvas: Canvas) -> None:
    """Two carriageways with a green strip between, on an embankment, with a few vehicles."""
    line = canvas.y - 4220 + 0.42 * canvas.x + 160 * np.sin(canvas.x / 900)
    distance = line / np.sqrt(1 + (0.42 - 160 / 900 * np.cos(canvas.x / 900)) ** 2)
    canvas.paint(GARDEN, 0.8 * cover(np.abs(distance) - 24))
    canvas.paint(ASPHALT, cover(np.abs(np.abs(distance) - 8.5) - 5.8))
    lorries = (np.abs(np.abs(distance) - 10) < 2.5) & (canvas.shell(34.0) > 2.6)
    canvas.paint((0.35, 0.36, 0.37, 0.40), 0.7 * lorries.astype(np.float32))


def _village_axes(canvas: Canvas) -> tuple[Floats, Floats]:
    """The distances along and across the village's main street, in m."""
    dx, dy = canvas.x - VILLAGE[0], canvas.y - VILLAGE[1]
    bend = 30 * np.sin(dx / 240) + 22 * np.sin(dy / 310 + 1)
    turned = np.cos(TURN) * dx + np.sin(TURN) * dy, np.cos(TURN) * dy - np.sin(TURN) * dx
    return np.asarray(turned[0] + bend, dtype=np.float32), np.asarray(turned[1] + bend, dtype=np.float32)


def _village(canvas: Canvas) -> None:
    """Streets in a bent grid around a centre, houses and gardens along them, halls at the edge."""
    u, v = _village_axes(canvas)
    edge = np.hypot(u / 1.35, v) - 330 - 70 * canvas.shell(300.0)
    crowns = canvas.shell(10.0)
    gardens = np.array(GARDEN, dtype=np.float32)[:, None, None] * (1 + 0.14 * canvas.shell(22.0))
    canvas.paint(gardens, 0.92 * cover(edge, 10.0))
    canvas.paint(TREES, 0.85 * cover(edge) * cover(-crowns + 0.9, 0.8))
    for axis, period in ((u, 112.0), (v, 76.0)):
        street = np.abs((axis / period) % 1 - 0.5) * period - 3.6
        canvas.paint(ASPHALT, 0.9 * cover(edge - 12) * cover(street))
    for along, across in ((u, v), (v, u)):
        canvas.paint(ASPHALT, cover(np.abs(across - 38) - 4.2) * cover(np.abs(along) - 2600))
    _houses(canvas, (u, v), edge)


def _houses(canvas: Canvas, streets: tuple[Floats, Floats], edge: Floats) -> None:
    """Houses at random places beside the streets, and a few halls; each with the shadow that it throws."""
    u, v = streets
    across = edge[::4, ::4].shape[1]
    taken: list[tuple[float, float, float]] = []
    for pick in canvas.rng.permutation(edge[::4, ::4].size):
        row, column = int(pick) // across * 4, int(pick) % across * 4
        if edge[row, column] > 0:
            continue
        to_street = min(abs((u[row, column] / 112) % 1 - 0.5) * 112, abs((v[row, column] / 76) % 1 - 0.5) * 76)
        hall = edge[row, column] > -110 and canvas.rng.random() < 0.05
        size = canvas.rng.uniform((24, 12), (45, 22)) if hall else canvas.rng.uniform((5, 4), (9, 6.5))
        x, y, reach = float(canvas.x[row, column]), float(canvas.y[row, column]), float(max(size))
        near = 6 + float(size[1])
        if not near < to_street < (90 if hall else 24):
            continue
        if any((x - tx) ** 2 + (y - ty) ** 2 < (reach + tr + 5) ** 2 for tx, ty, tr in taken):
            continue
        taken.append((x, y, reach))
        roofs = HALLS if hall else ROOFS
        _house(canvas, (x, y), (float(size[0]), float(size[1])), roofs[canvas.rng.integers(len(roofs))])


def _house(canvas: Canvas, at: tuple[float, float], half: tuple[float, float], roof: Spectrum) -> None:
    """One rectangle with a ridge (one side lit, one not), a yard, and a shadow to the north-west."""
    reach = int((max(half) + 16) / CELL)
    row, column = int(at[1] / CELL), int(at[0] / CELL)
    where = (slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach))
    dx, dy = canvas.x[where] - at[0], canvas.y[where] - at[1]
    turn = TURN + canvas.rng.choice([0.0, np.pi / 2]) + canvas.rng.normal(0, 0.04)

    def rectangle(shift: float, grow: float) -> Floats:
        u = (dx + shift) * np.cos(turn) + (dy + shift) * np.sin(turn)
        v = (dy + shift) * np.cos(turn) - (dx + shift) * np.sin(turn)
        return cover(np.maximum(np.abs(u) - half[0] - grow, np.abs(v) - half[1] - grow))

    canvas.paint(TRACK, 0.35 * rectangle(0, 5.0), where)
    canvas.paint(SHADE, 0.8 * rectangle(4.0, 0.0), where)
    lit = 1 + 0.13 * np.sign(dy * np.cos(turn) - dx * np.sin(turn))
    gain = canvas.rng.uniform(0.85, 1.15)
    canvas.paint(np.asarray(np.array(roof)[:, None, None] * lit * gain, dtype=np.float32), rectangle(0, 0), where)
