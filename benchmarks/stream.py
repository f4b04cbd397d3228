"""What the stream costs: its time over the bare forward passes of the same network on the same voxels.

Bare is the backend alone on pieces that just cover the image, without halo, reading, filling or writing, in the heap
that the stream has; they are as large as 2 GiB allow, and of slices of a volume as many as the stream's. Plain, on
request, is torch as it comes: the whole image in one call, default order, default heap. All alternate in one run; the
figures are ratios of medians. edsr is the paper's baseline (64 wide, 16 blocks) where nothing else is said; the less a
network has to do, the more files weigh.

    python -m benchmarks.stream --repeats 5 --size 1 --plain
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks._bench import table
from geomedsr.grid import Box, Grid, Shape
from geomedsr.image import Image, ImageSpec, Sink, Source
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.layout import layout_of
from geomedsr.inference.memory import steady_heap
from geomedsr.inference.upscaler import Upscaler
from geomedsr.io import geotiff
from geomedsr.networks import edsr, fsrcnn
from geomedsr.networks._network import Network
from geomedsr.task import Task

_BARE = 2 << 30
"""Bytes that the layers of a bare forward pass may take."""


@dataclass(frozen=True)
class Case:
    """A network and an image, in memory or in files."""

    name: str
    network: Network
    shape: Shape
    files: bool = False


def cases(size: float) -> Iterator[Case]:
    """The images, each axis `size` times its usual length."""

    def axis(length: int) -> int:
        return max(16, int(length * size))

    volume, raster = (1, axis(160), axis(192), axis(160)), (4, axis(4000), axis(4000))
    light = {"width": 32, "blocks": 4}
    yield Case("edsr, planar", edsr.build(Task(2, 1, (2, 2))), volume)
    yield Case("edsr 32 x 4, planar", edsr.build(Task(2, 1, (2, 2)), **light), volume)
    yield Case("edsr 32 x 4, 3 axes", edsr.build(Task(3, 1, (2, 2, 2)), **light), volume)
    networks = {
        "edsr": edsr.build(Task(2, 4, (2, 2))),
        "edsr 32 x 4": edsr.build(Task(2, 4, (2, 2)), **light),
        "fsrcnn": fsrcnn.build(Task(2, 4, (2, 2))),
    }
    for name, network in networks.items():
        yield Case(f"{name}, raster", network, raster)
        yield Case(f"{name}, GeoTIFF", network, raster, files=True)


def image(shape: Shape) -> Image:
    """Speckle of uint16."""
    voxels = np.random.default_rng(0).gamma(2.0, 500.0, shape).astype(np.uint16)
    plain = Image.of(voxels, Grid.of(shape[1:], np.diag([*([10.0] * (len(shape) - 1)), 1.0])))
    spec = ImageSpec(plain.spec.grid, plain.spec.channels, np.dtype(np.uint16))
    return Image(spec, plain.voxels)


class Bench:
    """One case, ready to be run in its three ways."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case, self._folder = case, folder
        self._image = image(case.shape)
        self._upscaler = Upscaler(case.network, None)
        self._backend = TorchBackend(case.network)
        self._layout = layout_of(case.network.task, self._image.spec)
        self._source: Source = self._image
        if case.files:
            path = folder / "source.tif"
            sink = geotiff.create_sink(path, self._image.spec)
            sink.write(Box.whole(case.shape[1:]), self._image.voxels)
            sink.commit()
            self._source = geotiff.open_source(path)
        finer = self._source.spec.upscaled(self._upscaler.factor_for(self._source.spec))
        self._finer, self._memory = finer, None if case.files else Image.empty(finer)
        self.window: Shape = ()
        self.tiles = 0

    def stream(self) -> None:
        """All of it: read, run, write."""
        sink: Sink = self._memory or geotiff.create_sink(self._folder / "out.tif", self._finer)
        outcome = self._upscaler.run(self._source, sink)
        self.window, self.tiles = outcome.window, outcome.tiles

    def bare(self) -> None:
        """The backend alone on the same voxels."""
        pieces = Box.whole(self._case.shape[1:]).split(self._piece())
        with steady_heap():
            for piece in pieces:
                self._backend.run(self._layout.to_batch(self._image.voxels[(slice(None), *piece.slices)]))

    def _piece(self) -> Shape:
        shape = self._case.shape[1:]
        if self._layout.others:
            return self.window
        row = self._backend.footprint.bytes(self._layout.batch_shape((1, *shape[1:])))
        return (max(1, _BARE // row), *shape[1:])

    def plain(self) -> None:
        """The network as torch runs it, on the whole image; slices of a volume one by one."""
        network = self._case.network.eval()
        batch = self._layout.to_batch(self._image.voxels)
        with torch.inference_mode():
            for one in batch:
                network(torch.from_numpy(one[None]))


def cost(work: Callable[[], None]) -> tuple[float, float]:
    """How long something takes, and how much processor time: the latter also tells on a machine that is shared."""
    began, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - spent


def main() -> None:
    """Runs the cases and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--size", type=float, default=0.25, help="length of each axis, of 160 x 192 x 160 and 4000 x 4000"
    )
    parser.add_argument("--only", default="", help="run the cases whose names contain this")
    parser.add_argument("--plain", action="store_true", help="run torch as it comes, too")
    asked = parser.parse_args()
    rows = []
    for case in cases(asked.size):
        if asked.only in case.name:
            rows.append(measured(case, asked.repeats, asked.plain))
            print(*rows[-1], file=sys.stderr, flush=True)
    titles = ("case", "shape", "window", "tiles", "stream / bare", "processor time", "stream / plain", "ns/voxel")
    print(table(titles, rows))


def measured(case: Case, repeats: int, plain: bool) -> tuple[object, ...]:
    """The row of a case."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(case, Path(folder))
        bench.stream()
        ways = (bench.stream, bench.bare, bench.plain) if plain else (bench.stream, bench.bare)
        rounds = [[cost(way) for way in ways] for _ in range(repeats)]
    stream, bare, *more = np.median(np.array(rounds), axis=0).tolist()
    shape, window = (" x ".join(map(str, numbers)) for numbers in (case.shape, bench.window))
    ratios = [f"{stream[i] / bare[i]:.3f}" for i in (0, 1)] + [f"{stream[0] / more[0][0]:.3f}" if more else ""]
    return case.name, shape, window, bench.tiles, *ratios, f"{stream[0] / np.prod(case.shape) * 1e9:.0f}"


if __name__ == "__main__":
    main()
