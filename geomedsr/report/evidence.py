"""What a pair's voxels say in figures: histograms, power by frequency, errors against a reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box
from geomedsr.image import Source, Voxels
from geomedsr.metrics import Compared, measured
from geomedsr.report._view import Stretch, View
from geomedsr.report.derived import Cubic
from geomedsr.report.pair import Pair
from geomedsr.report.spectrum import Power, Spectrum

__all__ = ["Evidence", "Histogram", "gather"]

_WINDOW, _PART = 512, 128
_MOST = 16
_BINS = 96


@dataclass(frozen=True)
class Histogram:
    """The share of a channel's valid voxels in each bin, of the input and of the result; the end bins hold the rest."""

    channel: str
    edges: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Evidence:
    """All figures of a pair, and of which share of the input's voxels they are.

    `beyond` is the share of the result's contrast energy that lies beyond the input's Nyquist. `scores` are those of
    the result and of cubic interpolation against the reference: the mean of each metric over the windows.
    """

    histograms: tuple[Histogram, ...]
    spectrum: Spectrum | None
    beyond: float | None
    scores: dict[str, dict[str, float]]
    data_range: float
    windows: int
    share: float


@dataclass
class _Tally:
    pair: Pair
    channels: tuple[int, ...]
    edges: NDArray[np.float64]
    powers: dict[str, Power]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    data_range: float = 0.0
    scores: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seen: int = 0
    windows: int = 0

    def add(self, window: Box, sources: dict[str, Source], main: int) -> None:
        """Reads one window of all images and counts it in; only the channel `main` counts for the spectrum."""
        fine = window.scaled(self.pair.factor)
        index = {"input": self.pair.channels(0, self.channels), "cubic": tuple(range(len(self.channels)))}
        read = {
            name: source.read(window if name == "input" else fine)[list(index.get(name, self.channels))]
            for name, source in sources.items()
        }
        self.seen, self.windows = self.seen + window.size, self.windows + 1
        self.before += _counted(read["input"], self.edges)
        self.after += _counted(read["result"], self.edges)
        grid, names = self.pair.grids[1], tuple(self.pair.names[i] for i in self.channels)
        for name, scores in self.scores.items():
            both = read[name], read["reference"]
            scores.append(measured(Compared(*both, self.data_range, grid.spacing, grid.units, self.pair.factor, names)))
        self._add_power(read, main)

    def _add_power(self, read: dict[str, Voxels], main: int) -> None:
        """Counts the parts in that are valid in all images; one corner without data does not silence a window."""
        view = self.pair.view
        planes = {name: _plane(voxels[main], view) for name, voxels in read.items()}
        times = self.pair.factor[view.rows], self.pair.factor[view.columns]
        for part in _cells(planes["input"].shape, (_PART, _PART)):
            cut = {
                name: plane[(part if name == "input" else part.scaled(times)).slices] for name, plane in planes.items()
            }
            if all(np.isfinite(plane).all() for plane in cut.values()):
                for name, plane in cut.items():
                    self.powers[name].add(plane)


def gather(pair: Pair, channels: tuple[int, ...], stretch: Stretch, reference: Source | None, main: int) -> Evidence:
    """The figures of a pair out of windows spread evenly over it: all of a small image, some of a large one.

    They are of these channels of the result, the spectrum of the channel `main` alone; `stretch` holds the lower and
    upper end of its contrast, measured on the input.
    """
    count = len(channels)
    sources: dict[str, Source] = {
        "input": pair.before,
        "cubic": Cubic(pair.before, pair.factor, pair.channels(0, channels)),
        "result": pair.after,
    }
    if reference is not None:
        sources["reference"] = reference
    tally = _Tally(
        pair,
        channels,
        _edges(stretch),
        {name: _power(pair, coarse=name == "input") for name in sources},
        before=np.zeros((count, _BINS)),
        after=np.zeros((count, _BINS)),
        data_range=max(stretch.high) - min(stretch.low),
        scores={name: [] for name in ("cubic", "result")} if reference is not None else {},
    )
    for window in windows(pair):
        tally.add(window, sources, channels.index(main))
    return _concluded(tally)


def _concluded(tally: _Tally) -> Evidence:
    shares = [counts / np.maximum(counts.sum(1, keepdims=True), 1) for counts in (tally.before, tally.after)]
    names = [tally.pair.names[i] for i in tally.channels]
    curves = {name: power.curve for name, power in tally.powers.items()}
    first = tally.powers["input"]
    spectrum = Spectrum(
        {
            name: [p for p in curve if name != "input" or p[0] <= first.nyquist[first.along[0]]]
            for name, curve in curves.items()
        },
        first.nyquist[first.along[0]],
        first.limit,
        tally.pair.grids[0].units,
    )
    return Evidence(
        tuple(
            Histogram(name, *(tuple(float(v) for v in row[i]) for row in (tally.edges, *shares)))
            for i, name in enumerate(names)
        ),
        spectrum if curves["result"] else None,
        tally.powers["result"].share_beyond if curves["result"] else None,
        {name: _means(scores) for name, scores in tally.scores.items()},
        tally.data_range,
        tally.windows,
        tally.seen / math.prod(tally.pair.grids[0].shape),
    )


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    """Each metric's mean over the windows that it says something of."""
    names = dict.fromkeys(name for score in scores for name in score)
    found = {name: [score[name] for score in scores if not math.isnan(score.get(name, math.nan))] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def windows(pair: Pair) -> Iterator[Box]:
    """Windows of the shown plane's axes, at most 512 voxels of the input on a side, 16 at most, evenly spread."""
    view, shape = pair.view, pair.grids[0].shape
    size = [1] * len(shape)
    for axis in (view.rows, view.columns):
        size[axis] = min(shape[axis], _WINDOW)
    whole = list(_cells(shape, tuple(size)))
    for i in sorted({round(k * (len(whole) - 1) / (_MOST - 1)) for k in range(_MOST)}):
        yield whole[i]


def _cells(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[Box]:
    """The image cut into equal parts of nearly `size`: no part is a sliver."""
    counts = [-(-n // s) for n, s in zip(shape, size, strict=True)]
    for box in Box.whole(counts).split((1,) * len(counts)):
        yield Box(
            tuple(i * n // c for i, n, c in zip(box.start, shape, counts, strict=True)),
            tuple(i * n // c for i, n, c in zip(box.stop, shape, counts, strict=True)),
        )


def _power(pair: Pair, *, coarse: bool) -> Power:
    view, factor = pair.view, pair.factor
    spacing = view.spacing(pair.grids[0 if coarse else 1])
    before, after = (tuple(0.5 / s for s in view.spacing(grid)) for grid in pair.grids)
    times = factor[view.rows], factor[view.columns]
    along = (0, 1) if times[0] == times[1] else (0,) if times[0] > times[1] else (1,)
    return Power(spacing, (before[0], before[1]), max(after[axis] for axis in along), along)


def _plane(voxels: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """The middle plane on the cut axis, its rows first."""
    plane = voxels if view.cut is None else np.take(voxels, voxels.shape[view.cut] // 2, view.cut)
    return plane.T if view.rows > view.columns else plane


def _edges(stretch: Stretch) -> NDArray[np.float64]:
    """The bins' edges of each channel: its contrast, and half as much on both sides."""
    ends = zip(stretch.low, stretch.high, strict=True)
    return np.array([np.linspace(low - (high - low) / 4, high + (high - low) / 2, _BINS + 1) for low, high in ends])


def _counted(voxels: Voxels, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = [
        np.histogram(np.clip(channel[np.isfinite(channel)], ends[0], ends[-1]), ends)[0]
        for channel, ends in zip(voxels, edges, strict=True)
    ]
    return np.array(counts, dtype=np.float64)
