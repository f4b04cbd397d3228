"""The stream: an image goes through a network tile by tile, in memory bounded by the tile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.data.intensity import Intensity, IntensityRule
from geomedsr.errors import ModelError, OutOfMemoryError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import ImageSpec, Sink, Source, StoredSink, StoredSource, Voxels
from geomedsr.inference import fill
from geomedsr.inference.backend import Backend, TorchBackend
from geomedsr.inference.carry import Carry, Pace
from geomedsr.inference.choice import Choice, check_asked, choose
from geomedsr.inference.cutting import Cut, asked_cut, block_bytes, choose_cut
from geomedsr.inference.layout import Layout, layout_of
from geomedsr.inference.memory import is_exhausted, release, spent_freely, steady_heap
from geomedsr.inference.relay import PLAIN, Passage, Pending, is_narrow, passage_of
from geomedsr.inference.resumable import Resumable
from geomedsr.inference.stream import DEPTH, Ahead, Behind
from geomedsr.inference.windows import FILL, FILL_BESIDE, Demand, Work, choose_window, halve
from geomedsr.networks._network import Network
from geomedsr.tiling import Plan, Tile

__all__ = ["Outcome", "Progress", "Session", "Upscaler"]

Progress = Callable[[int, int], None]
"""Told how many voxels of the output are written, and how many there are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went. `window` is the lr shape that the network saw, halo included; `waited` the share of the time
    that it stood still for reading and for writing; `choice` is what it ran with and why.
    """

    voxels: int
    seconds: float
    tiles: int
    window: Shape
    device: str
    precision: str
    waited: float
    choice: Choice


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A tile, its batch (None: there is nothing valid to keep) and which of its voxels are invalid (None: none).

    `passage` is how the batch travels to a device: what is done there is not done here.
    """

    tile: Tile
    batch: NDArray[Any] | None
    invalid: NDArray[np.bool_] | None
    passage: Passage = PLAIN


class Upscaler:
    """A network as it is used on images.

    `axes` are the image's axes that a planar network works on (default: all but that of the coarsest spacing). `tile`
    is how many lr voxels a tile brings forward on each axis, its halo not counted: one number for all axes, or one
    for each (default: by the memory at hand). `memory` is the most bytes that tiles may take. What `backend` and
    `precision` leave to "auto" is measured on a piece of the image, and what was chosen is told to `tell`.
    """

    def __init__(
        self,
        network: Network,
        intensity: IntensityRule | None,
        *,
        axes: tuple[int, ...] | None = None,
        device: str = "cpu",
        precision: str = "float32",
        tile: Shape | None = None,
        memory: int | None = None,
        backend: str = "auto",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        check_asked(backend, precision, device)
        self._asked_backend, self._told = backend, tell
        self._choice: tuple[Backend, Choice] | None = None
        self._network, self._intensity = network, intensity
        self._axes, self._tile, self._memory = axes, tile, memory
        self._device, self._precision = device, precision

    def factor_for(self, spec: ImageSpec) -> Factor:
        """How many times finer each axis of an image becomes.

        Raises:
            ModelError: the network does not fit the image.
        """
        return self._layout(spec).on_image(self._network.task.factor, 1)

    def run(self, source: Source, sink: Sink, progress: Progress | None = None) -> Outcome:
        """Upscales an image; the sink is committed at the end, or aborted whatever goes wrong.

        Raises:
            ModelError: the network does not fit the image, or looks at all of it and it is too large.
            OutOfMemoryError: not even the smallest tile fits.
        """
        began = time.perf_counter()
        try:
            session = self.session(source, sink, progress=progress)
            session.run()
            sink.commit()
        except BaseException as error:
            sink.abort()
            if is_exhausted(error) and not isinstance(error, OutOfMemoryError):
                raise OutOfMemoryError(f"Memory ran out beside the network: {error}. Pass a smaller tile.") from error
            raise
        seconds = time.perf_counter() - began
        backend, waited = session.backend, session.waited / seconds
        device, precision, choice = backend.device, backend.precision, session.choice
        return Outcome(session.written, seconds, session.tiles, session.window, device, precision, waited, choice)

    def session(
        self,
        source: Source,
        sink: Sink,
        *,
        intensity: Intensity | None = None,
        window: Shape | None = None,
        progress: Progress | None = None,
    ) -> Session:
        """An image on its way, box by box; the sink is neither committed nor aborted.

        `intensity` is the map that was fitted to the image before, `window` what `cut_for` gave: whoever works on a
        part of an image is told both, so that all parts are made alike.

        Raises:
            ModelError: the network does not fit the image, or looks at all of it and it is too large.
            OutOfMemoryError: not even the smallest tile fits.
        """
        spec, settings = source.spec, self._network.settings
        if spec.extra.get("palette") and settings.get("kernel") != "nearest":
            raise ModelError("The image has a palette: its values are names of colours; only nearest can upscale them.")
        layout = self._layout(spec)
        work = self._work(spec, sink.spec)
        settled = self._choice is not None or self._asked_backend == "torch" or self._precision == "float32"
        asked, window = window, window or self._window(work, layout, self._exact, carries=settled)
        if intensity is None:
            intensity = self._intensity.fit(source) if self._intensity else Intensity()
        backend, choice = self._chosen(source, layout, work.plan(window), intensity)
        if asked is None and backend is not self._exact:
            window = self._window(work, layout, backend, carries=True)
        return Session(source, sink, layout, work, backend, intensity, window, progress, choice, self._told)

    def cut_for(self, before: ImageSpec, after: ImageSpec, sharers: int = 1) -> Cut:
        """How a job cuts an image's output into tasks, and with which window it works through them.

        `sharers` are as many as work side by side in the memory at hand.

        Raises:
            ModelError: the network does not fit the image, or looks at all of it and it is too large.
            OutOfMemoryError: not even the smallest tile fits.
        """
        work, layout, backend = self._work(before, after), self._layout(before), self._exact
        if self._network.reach is None:
            return Cut(self._window(work, layout, backend, sharers), after.grid.shape)
        if self._tile is not None:
            return asked_cut(work, self._checked(work, self._tile))
        pace, is_cpu = Pace(backend, layout, carries=False), backend.device == "cpu"

        def demand(cut: Cut) -> Demand:
            found = pace.demand(work, cut.window)
            return replace(found, bytes=found.bytes + block_bytes(cut, after)) if is_cpu else found

        at_hand, limit = backend.available(), self._limit(backend, sharers)
        cut = choose_cut(work, demand, self._memory or spent_freely(backend.device, at_hand), limit)
        if cut is None:
            least = " x ".join(map(str, after.chunks or after.grid.shape))
            raise OutOfMemoryError(
                f"A block of {least} voxels, the least that is written at once, does not fit into {_mebibytes(limit)} "
                "beside the network; choose smaller blocks (chunks, shards), or pass more memory."
            )
        return cut

    def chosen_for(self, source: Source, after: ImageSpec) -> Choice:
        """What an image will be worked through with, found out before its output is begun.

        Raises:
            ModelError: the network does not fit the image, or looks at all of it and it is too large.
            OutOfMemoryError: not even the smallest tile fits.
        """
        layout, work = self._layout(source.spec), self._work(source.spec, after)
        window = self._window(work, layout, self._exact)
        intensity = self._intensity.fit(source) if self._intensity else Intensity()
        return self._chosen(source, layout, work.plan(window), intensity)[1]

    @cached_property
    def _exact(self) -> TorchBackend:
        return TorchBackend(self._network, self._device, tell=self._told)

    def _layout(self, spec: ImageSpec) -> Layout:
        return layout_of(self._network.task, spec, self._axes)

    def _work(self, before: ImageSpec, after: ImageSpec) -> Work:
        layout = self._layout(before)
        factor = layout.on_image(self._network.task.factor, 1)
        if after.shape != before.upscaled(factor).shape:
            raise ModelError(f"The output has the shape {after.shape}; {factor} times finer gives another.")
        # A network that looks everywhere has no halo that would do: its window is the whole image.
        reach = self._network.reach or (0,) * self._network.task.ndim
        multiple = layout.on_image((self._network.multiple_of,) * len(layout.axes), 1)
        return Work(before.grid.shape, factor, layout.on_image(reach, 0), after.chunks, multiple)

    def _chosen(self, source: Source, layout: Layout, plan: Plan, intensity: Intensity) -> tuple[Backend, Choice]:
        """What the tiles of a plan run with: chosen for the first, and kept."""
        if self._choice is not None:
            return self._choice

        def piece() -> Voxels:
            voxels = intensity.apply(source.read(plan[len(plan) // 2].read))
            return layout.to_batch(np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0))

        voxels = len(plan) * math.prod(plan.window) * layout.channels // layout.seen
        backend, choice = choose(self._network, self._exact, self._asked_backend, self._precision, voxels, piece)
        if self._told and choice.refused:
            self._told(f"Runs without what could have been faster: {choice.refused}")
        if self._told and "auto" in (self._asked_backend, self._precision) and backend is not self._exact:
            self._told(f"Runs in {choice}.")
        self._choice = backend, choice
        return self._choice

    def _limit(self, backend: Backend, sharers: int) -> int:
        return self._memory or backend.available() // (2 * sharers)

    def _window(self, work: Work, layout: Layout, backend: Backend, sharers: int = 1, carries: bool = False) -> Shape:
        pace = Pace(backend, layout, carries)
        demand = partial(pace.demand, work)
        at_hand, limit = backend.available(), self._limit(backend, sharers)
        if self._network.reach is None:
            if (needed := demand(work.padded).bytes) > limit:
                raise ModelError(
                    f"The network looks at the whole image at once, which takes {_mebibytes(needed)}; "
                    f"{_mebibytes(limit)} are allowed for it. Pass more memory or a smaller image."
                )
            return work.padded
        if self._tile is not None:
            return self._asked(work, self._tile)
        frugal = self._memory or spent_freely(backend.device, at_hand)
        window = choose_window(work, demand, frugal, limit, pace.axes, FILL_BESIDE if backend.relay else FILL)
        if window is None:
            needed = demand(work.smallest).bytes
            raise OutOfMemoryError(
                f"The smallest window of the network, {work.smallest}, takes {_mebibytes(needed)}; "
                f"{_mebibytes(limit)} are allowed for it. Pass more memory."
            )
        return window

    def _asked(self, work: Work, tile: Shape) -> Shape:
        wanted = self._checked(work, tile)
        seen = [n + 2 * halo for n, halo in zip(wanted, work.halo, strict=True)]
        return work.fitted(tuple(max(rows) for rows in zip(seen, work.smallest, strict=True)))

    def _checked(self, work: Work, tile: Shape) -> Shape:
        ndim = len(work.shape)
        wanted = tile * ndim if len(tile) == 1 else tile
        if len(wanted) != ndim or min(wanted) < 1:
            raise ModelError(f"A tile is one number, or {ndim} for this image, each at least 1; got {tile}.")
        return wanted


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


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


_Item = tuple[_Loaded, Voxels | Pending | None]
"""What goes to the writer: a tile and its result (None: it is all invalid)."""
