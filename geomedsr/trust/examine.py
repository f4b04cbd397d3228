"""An output held against its input, without any truth: everything that must be so, and what would be a surprise."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geomedsr.data.intensity import sample_boxes
from geomedsr.grid import Grid
from geomedsr.image import Source, Voxels
from geomedsr.trust._aligned import Aligned, Block
from geomedsr.trust._degraded import Linear, averaged, interpolated
from geomedsr.trust._invented import contrast, invented
from geomedsr.trust._seams import Seams
from geomedsr.trust._shift import Shift
from geomedsr.trust._spectrum import Spectra
from geomedsr.trust._values import Drift, Ends, Holes
from geomedsr.trust.verify import Check, judged

__all__ = ["Findings", "examine", "spans"]

Progress = Callable[[int, int], None]

HALO = 3
"""How many input voxels around a block the interpolation needs to be that of the whole image."""

_SAMPLE = 1 << 22
_IN_MEMORY = 1 << 28
_BORDER = 3
"""Input voxels at the ends of a refined axis that are no place for structures: degradations and networks each go on in
their own way where there is no neighbour."""

# What warns and what fails. Honest outputs stay far below (benchmarks/verify.py shows them beside planted faults).
SHIFT = (0.025, 0.05)
CERTAIN = 4.0
"""Standard deviations of a shift that are no shift."""
CONSISTENCY = (10.0, 30.0)
INTERPOLATION = (1.5, 2.5)
"""Times what cubic interpolation differs: of an image that is mostly noise even that gives little back."""
ENDS = (0.2, 1.5)
SEAM = (20.0, 40.0)
HISTOGRAM = (5.0, 15.0)
NDVI = (0.02, 0.05)
INVENTED = (15.0, 20.0)
DETAIL = 4.0
"""Times what the input's spectrum lets expect."""


@dataclass(frozen=True)
class Findings:
    """The checks, and the residual (degraded output less input) on the input's grid.

    Shape: residual (C, *S), NaN where invalid
    """

    checks: tuple[Check, ...]
    residual: Voxels


def examine(pair: Aligned, linear: Linear, progress: Progress | None = None) -> Findings:
    """Reads both images once, block by block, and judges what it finds."""
    work = _Work(pair, linear, spans(pair.before, pair.channels))
    halo = tuple(None if rim is None else max(rim, HALO) for rim in linear.halo(pair.factor))
    done, total = 0, math.prod(pair.shape)
    for block in pair.blocks(halo):
        work.add(block)
        done += block.box.size
        if progress:
            progress(done, total)
    return Findings(tuple(work.checks()), work.residual)


def spans(source: Source, channels: tuple[int, ...]) -> NDArray[np.float64]:
    """The range of each channel's values but for one in a thousand at either end; 1 where there is none.

    Shape: (C,)
    """
    boxes = sample_boxes(source.spec.grid.shape, _SAMPLE, len(channels))
    parts = [source.read(box)[list(channels)].reshape(len(channels), -1) for box in boxes]
    found = []
    for values in np.concatenate(parts, axis=1):
        valid = values[np.isfinite(values)]
        low, high = np.quantile(valid, (0.001, 0.999)) if valid.size else (0.0, 1.0)
        found.append(float(high - low) or float(np.ptp(valid)) or 1.0)
    return np.array(found)


@dataclass
class _Work:
    """Everything that is summed up on the way."""

    pair: Aligned
    linear: Linear
    ranges: NDArray[np.float64]

    def __post_init__(self) -> None:
        pair, factor = self.pair, self.pair.factor
        self.names = pair.after.spec.channels
        self.shift, self.spectra = Shift(len(factor), self.ranges), Spectra(factor)
        fine = pair.after.spec.grid.shape
        self.seams = (Seams(fine, factor, self.ranges), Seams(pair.shape, (1,) * len(factor), self.ranges))
        self.ends = [(Ends(), Ends()) for _ in self.names]
        self.holes = [Holes() for _ in self.names]
        self.drift = Drift(math.prod(pair.shape), self.names)
        self.residual, self.busy = self._array(len(self.names)), self._array(1)
        self.moments = np.zeros((len(self.names), 5))

    def _array(self, channels: int) -> Voxels:
        """Room for a figure for each input voxel: in memory, or in a file that is gone at the end."""
        shape = (channels, *self.pair.shape)
        if math.prod(shape) * 4 <= _IN_MEMORY:
            return np.empty(shape, np.float32)
        with tempfile.TemporaryFile() as scratch:  # the map keeps it open
            return np.memmap(scratch, np.float32, "w+", shape=shape)

    def add(self, block: Block) -> None:
        factor = self.pair.factor
        x, y = block.x[block.inner_fine], block.y[block.inner]
        coarse = self.linear(block.x, factor)[block.inner]
        smooth = interpolated(block.y, factor)
        plain = self.linear(smooth, factor)[block.inner]
        place = (slice(None), *block.box.slices)
        self.residual[place] = coarse - y
        self.busy[place] = contrast(block.y, factor, self.ranges)[block.inner]
        self.shift.add(averaged(x, factor), y)
        self.seams[0].add(block.box.scaled(factor), x - smooth[block.inner_fine])
        self.seams[1].add(block.box, coarse - y)
        self.spectra.add(block)
        self.drift.add(coarse, y)
        for channel in range(len(self.names)):
            self._add_channel(channel, x[channel], y[channel], coarse[channel], plain[channel])

    def _add_channel(
        self,
        channel: int,
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        coarse: NDArray[np.float32],
        plain: NDArray[np.float32],
    ) -> None:
        for ends, image in zip(self.ends[channel], (x, y), strict=True):
            ends.add(image[np.isfinite(image)])
        self.holes[channel].add(x, y, self.pair.factor)
        both = np.isfinite(coarse) & np.isfinite(plain) & np.isfinite(y)
        there = y[both].astype(np.float64)
        errors = [float(((image[both] - there) ** 2).sum()) for image in (coarse, plain)]
        self.moments[channel] += (there.size, there.sum(), (there**2).sum(), *errors)

    def checks(self) -> Iterator[Check]:
        """What was found, judged."""
        yield from self._shifts()
        yield from self._holes()
        yield from self._consistencies()
        yield from self._inventions()
        yield from self._seams()
        yield from self._saturations()
        yield from self._drifts()
        yield from self._details()

    def _shifts(self) -> Iterator[Check]:
        moved, doubt = (each * np.array(self.pair.factor) for each in (self.shift.voxels, self.shift.doubt))
        if np.isfinite(moved).any():
            told = [f"{one:+.4f} ± {sd:.4f}" for one, sd in zip(moved, doubt, strict=True) if np.isfinite(one)]
            limits = [max(limit, CERTAIN * float(np.nanmax(doubt))) for limit in SHIFT]
            text = f"moved by {', '.join(told)} on its axes"
            yield judged("shift", float(np.nanmax(np.abs(moved))), *limits, unit="voxel", explanation=text)

    def _holes(self) -> Iterator[Check]:
        for name, holes in zip(self.names, self.holes, strict=True):
            wrong = holes.lost + holes.made
            text = f"{holes.lost} voxels are valid that the input says are not, {holes.made} the other way round"
            yield judged("nodata", wrong, 0, 0, unit="voxels", channel=name, explanation=text if wrong else "")

    def _consistencies(self) -> Iterator[Check]:
        for name, (count, first, second, *errors) in zip(self.names, self.moments, strict=True):
            spread = math.sqrt(max(second / count - (first / count) ** 2, 0)) if count else 0
            if spread > 0:
                found, plain = (100 * math.sqrt(error / count) / spread for error in errors)
                limits = [max(limit, times * plain) for limit, times in zip(CONSISTENCY, INTERPOLATION, strict=True)]
                text = f"of the input's spread, made coarse by {self.linear.name}; cubic interpolation: {plain:.3g} %"
                yield judged("consistency", found, *limits, unit="%", channel=name, explanation=text)

    def _inventions(self) -> Iterator[Check]:
        sides = zip(self.pair.factor, self.pair.shape, strict=True)
        border = [_BORDER if f > 1 and n > 4 * _BORDER else 0 for f, n in sides]
        inner = (slice(None), *(slice(rim, n - rim) for rim, n in zip(border, self.pair.shape, strict=True)))
        found = invented(self.residual[inner], self.busy[inner], self.pair.factor, self.ranges)
        if found is not None:
            index = tuple(i + rim for i, rim in zip(found.place, border, strict=True))
            text = f"{100 * found.height:+.1f} % of the range at {_where(index, self.pair.before.spec.grid)}"
            yield judged(
                "structure", found.score, *INVENTED, unit="sd", channel=self.names[found.channel], explanation=text
            )

    def _seams(self) -> Iterator[Check]:
        for axis, factor in enumerate(self.pair.factor):
            fine, coarse = (seams.worst_on(axis) for seams in self.seams)
            coarse = replace(coarse, place=coarse.place * factor) if coarse else None
            seam = max((one for one in (fine, coarse) if one), key=lambda one: one.score, default=None)
            if seam is not None:
                text = f"a step of {100 * seam.step:+.2f} % of the range before voxel {seam.place} of axis {axis}"
                yield judged("seam", seam.score, *SEAM, unit="sd", explanation=text)

    def _saturations(self) -> Iterator[Check]:
        for name, (after, before) in zip(self.names, self.ends, strict=True):
            rises = [100 * (a - b) for a, b in zip(after.shares, before.shares, strict=True)]
            end = int(rises[1] > rises[0])
            value = (after.low, after.high)[end]
            there, here = (100 * ends.shares[end] for ends in (after, before))
            text = f"{there:.2f} % are {value:.6g}; {here:.2f} % are at that end in the input"
            yield judged("saturation", max(*rises, 0.0), *ENDS, unit="% of voxels", channel=name, explanation=text)

    def _drifts(self) -> Iterator[Check]:
        for name, found in zip(self.names, self.drift.histogram, strict=True):
            text = "distance of the histograms against the spread of the input"
            yield judged("histogram", 100 * found, *HISTOGRAM, unit="%", channel=name, explanation=text)
        if (drift := self.drift.ndvi) is not None:
            yield judged("NDVI", drift, *NDVI, explanation="mean absolute change of the vegetation index")

    def _details(self) -> Iterator[Check]:
        for axis, factor in enumerate(self.pair.factor):
            shares = self.spectra.beyond(axis) if factor > 1 else None
            if shares is not None:
                found, expected = (100 * share for share in shares)
                text = f"of the energy on axis {axis} is finer than the input's, which goes on to {expected:.3g} %"
                yield judged("detail", found, max(DETAIL * expected, 1.0), math.inf, unit="%", explanation=text)


def _where(index: tuple[int, ...], grid: Grid) -> str:
    place = ", ".join(f"{value:.6g}" for value in grid.world([i + 0.5 for i in index]))
    return f"input voxel {index} ({place})"
