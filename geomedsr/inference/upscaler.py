"""A network as it is used on images: with which window, on what, and in which cuts they go through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from geomedsr.data.intensity import Intensity, IntensityRule
from geomedsr.errors import ModelError, OutOfMemoryError
from geomedsr.grid import Factor, Shape
from geomedsr.image import ImageSpec, Sink, Source, Voxels
from geomedsr.inference.backend import Backend, TorchBackend
from geomedsr.inference.carry import Pace
from geomedsr.inference.choice import Choice, check_asked, choose
from geomedsr.inference.cutting import Cut, asked_cut, block_bytes, choose_cut
from geomedsr.inference.layout import Layout, layout_of
from geomedsr.inference.memory import is_exhausted, spent_freely
from geomedsr.inference.session import Progress, Session
from geomedsr.inference.windows import FILL, FILL_BESIDE, Demand, Work, choose_window
from geomedsr.networks._network import Network
from geomedsr.tiling import Plan

__all__ = ["Outcome", "Upscaler"]


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
