"""The stream: an image goes through a network tile by tile, in memory bounded by the tile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.data.intensity import Intensity
from geomedsr.errors import OutOfMemoryError
from geomedsr.grid import Box, Shape
from geomedsr.image import Sink, Source, StoredSink, StoredSource, Voxels
from geomedsr.inference import fill
from geomedsr.inference.backend import Backend
from geomedsr.inference.carry import Carry, Pace
from geomedsr.inference.choice import Choice
from geomedsr.inference.layout import Layout
from geomedsr.inference.memory import is_exhausted, release, steady_heap
from geomedsr.inference.relay import PLAIN, Passage, Pending, is_narrow, passage_of
from geomedsr.inference.resumable import Resumable
from geomedsr.inference.stream import DEPTH, Ahead, Behind
from geomedsr.inference.windows import Work, halve
from geomedsr.tiling import Tile

__all__ = ["Progress", "Session"]

Progress = Callable[[int, int], None]
"""Told how many voxels of the output are written, and how many there are."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A tile, its batch (None: there is nothing valid to keep) and which of its voxels are invalid (None: none).

    `passage` is how the batch travels to a device: what is done there is not done here.
    """

    tile: Tile
    batch: NDArray[Any] | None
    invalid: NDArray[np.bool_] | None
    passage: Passage = PLAIN


_Item = tuple[_Loaded, Voxels | Pending | None]
"""What goes to the writer: a tile and its result (None: it is all invalid)."""


class Session:
    """One image's way through the stages.

    `written` counts hr voxels, `waited` the seconds that the network stood still, `computed` those that it ran.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        layout: Layout,
        work: Work,
        backend: Backend,
        intensity: Intensity,
        window: Shape,
        progress: Progress | None,
        choice: Choice,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.backend, self.window, self.choice = backend, window, choice
        self._tell_note = tell or (lambda text: None)
        self._owed: list[Tile] = []
        self.tiles = self.written = 0
        self.waited = self.computed = 0.0
        self._source, self._sink, self._layout, self._work = source, sink, layout, work
        self._intensity, self._progress = intensity, progress
        self._total = math.prod(sink.spec.grid.shape)
        self._relay = backend.relay
        self._passage = passage_of(source.spec, sink.spec, intensity)
        spec = source.spec
        self._loads = self._relay is not None and is_narrow(spec) and spec.nodata is None and not spec.has_holes

    def run(self, boxes: Iterable[Box] | None = None) -> None:
        """Reads, runs and writes all of the image, or some boxes of the output, in their order.

        Where memory runs out, the tiles that are left are cut smaller.
        """
        plan = self._work.plan(self.window)
        axis = Pace(self.backend, self._layout).axis(self._work, self.window)
        ordered = plan if axis is None else plan.along(axis)
        tiles: Iterable[Tile] = ordered if boxes is None else chain.from_iterable(map(plan.refit, boxes))
        self._tell()
        began = time.perf_counter()
        # A GPU's activations are not the heap's.
        heap = steady_heap() if self.backend.device == "cpu" else nullcontext()
        with heap, self._settled():
            self._through(tiles)
            while self._owed:
                owed, self._owed = self._owed, []
                self._through(self._smaller(iter(owed), "no room for a result"))
        if self._relay:
            # The stages only start what a GPU does: how long it stood still is what its own clock leaves.
            self.waited = max(0.0, time.perf_counter() - began - self.computed / self._relay.size)
        self._tell()

    def _through(self, tiles: Iterable[Tile]) -> None:
        with Behind(self._write, DEPTH * (self._relay.size if self._relay else 1)) as behind:
            while (left := self._pass(tiles, behind)) is not None:
                tiles = left
        self.waited += behind.waited

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Leaves nothing on its way, whatever happens."""
        try:
            yield
        finally:
            if self._relay:
                self._relay.settle()

    def _pass(self, tiles: Iterable[Tile], behind: Behind[_Item]) -> Iterator[Tile] | None:
        """Tiles of one window, until all are done (None) or memory runs out (the smaller tiles that are left)."""
        rest = Resumable(tiles)
        carry = Carry(Pace(self.backend, self._layout), self._work, self.window)
        with Ahead(self._read, rest) as ahead:
            try:
                for loaded in ahead:
                    result = None if loaded.batch is None else self._forward(carry, loaded)
                    rest.done()
                    behind.put((loaded, result))
                    del loaded, result  # not to live on beside the next ones
                    self._tell()
                return None
            except Exception as error:
                if behind.failed or not is_exhausted(error):
                    raise
                reason = str(error)
            finally:
                self.waited += ahead.waited
        if self._relay:
            self._relay.let_go()
        release(self.backend.device)
        return self._smaller(rest.left(), reason)

    def _forward(self, carry: Carry, loaded: _Loaded) -> Voxels | Pending:
        assert loaded.batch is not None
        if self._relay:
            return self._relay.start(loaded.batch, loaded.passage)
        began = time.perf_counter()
        try:
            return carry.run(loaded.tile, loaded.batch)
        finally:
            self.computed += time.perf_counter() - began

    def _smaller(self, left: Iterator[Tile], reason: str) -> Iterator[Tile]:
        window = halve(self._work, self.window)
        if window is None:
            raise OutOfMemoryError(f"Memory ran out at the smallest tile, {self.window} voxels: {reason}")
        self._tell_note(f"Memory ran out with windows of {self.window} voxels; going on with {window}.")
        self.window = window
        plan = self._work.plan(window)
        return chain.from_iterable(plan.refit(tile.write) for tile in left)

    def _tell(self) -> None:
        if self._progress:
            self._progress(self.written, self._total)

    def _read(self, tile: Tile) -> _Loaded:
        """The reader's stage: from physical values to what the network sees."""
        if self._loads and isinstance(self._source, StoredSource):
            stored = _padded(self._source.load(tile.read), tile)
            return _Loaded(tile, self._layout.as_batch(stored), None, self._passage)
        voxels = self._source.read(tile.read)
        invalid = ~np.isfinite(voxels)
        spoilt = bool(invalid.any())
        if spoilt and invalid[(slice(None), *self._beneath(tile).slices)].all():
            return _Loaded(tile, None, invalid)
        passage = self._passage if self._relay and not spoilt else PLAIN
        if spoilt:
            voxels = self._filled(tile)
        elif passage is PLAIN:
            voxels = self._intensity.apply(voxels)
        return _Loaded(tile, self._layout.to_batch(_padded(voxels, tile)), invalid if spoilt else None, passage)

    def _filled(self, tile: Tile) -> Voxels:
        """The tile read once more with as much around it as the filling looks at."""
        margin = self._layout.on_image((fill.REACH,) * len(self._layout.axes), 0)
        wide = tile.read.grown(margin).clipped(self._work.shape)
        voxels = fill.fill(self._intensity.apply(self._source.read(wide)), self._layout.axes)
        return voxels[(slice(None), *tile.read.relative_to(wide.start).slices)]

    def _beneath(self, tile: Tile) -> Box:
        """The lr voxels of the tile, counted from its first, that what it keeps lies in."""
        factor = self._work.factor
        start = tuple(a // f for a, f in zip(tile.keep.start, factor, strict=True))
        return Box(start, tuple(-(-b // f) for b, f in zip(tile.keep.stop, factor, strict=True)))

    def _write(self, item: _Item) -> None:
        """The writer's stage; a tile that there is no memory for is owed, to be done again in smaller ones."""
        loaded, result = item
        # A device's result may be a view of what the next tile is put into: it is written before it is given back.
        with result if isinstance(result, Pending) else nullcontext(result) as batch:
            try:
                voxels = self._result(loaded, batch)
            except MemoryError:
                self._owed.append(loaded.tile)
                return
            self._put(loaded.tile, voxels)
        if isinstance(result, Pending):
            self.computed += result.computed
        self.written += loaded.tile.write.size
        self.tiles += 1

    def _put(self, tile: Tile, voxels: NDArray[Any]) -> None:
        if voxels.dtype != np.float32 and isinstance(self._sink, StoredSink):
            self._sink.store(tile.write, voxels)
        else:
            self._sink.write(tile.write, voxels.astype(np.float32, copy=False))

    def _result(self, loaded: _Loaded, batch: NDArray[Any] | None) -> NDArray[Any]:
        """What is kept of a tile, back in physical values, invalid where the input was."""
        tile = loaded.tile
        if batch is None:
            shape = (self._layout.channels, *tile.write.shape)
            return np.full(shape, np.nan, np.float32)
        slices = tuple(tile.window[axis] for axis in self._layout.others)
        voxels = self._layout.from_batch(batch, slices)[(slice(None), *tile.keep.slices)]
        if loaded.passage is PLAIN and self._intensity != Intensity():
            voxels = self._intensity.invert(voxels)
        if loaded.invalid is not None:
            beneath = self._beneath(tile)
            mask = fill.spread(loaded.invalid[(slice(None), *beneath.slices)], self._work.factor)
            inner = tile.keep.relative_to(beneath.scaled(self._work.factor).start)
            voxels[mask[(slice(None), *inner.slices)]] = np.nan
        return voxels


def _padded(numbers: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """A tile's numbers as the window that the network sees."""
    if not any(tile.pad):
        return numbers
    return np.pad(numbers, [(0, 0), *((0, pad) for pad in tile.pad)], mode="edge")
