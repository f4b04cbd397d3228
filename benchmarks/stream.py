"""What the stream costs: its time over the bare forward passes of the same network on the same voxels.

Bare is the backend alone on pieces that just cover the image, without halo, reading, filling or writing, in the heap
that the stream has. Plain is torch as it comes: the whole image in one call, default order, default heap. All three
alternate in one run; the figures are ratios of medians.

    python -m benchmarks.stream --repeats 5 --size 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

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

    volume, raster = (1, axis(160), axis(192), axis(160)), (4, axis(1500), axis(1500))
    yield Case("edsr, volume, planar", edsr.build(Task(2, 1, (2, 2)), width=32, blocks=4), volume)
    yield Case("edsr, volume, 3 axes", edsr.build(Task(3, 1, (2, 2, 2)), width=16, blocks=2), volume)
    for network in (fsrcnn.build(Task(2, 4, (2, 2))), edsr.build(Task(2, 4, (2, 2)), width=32, blocks=4)):
        yield Case(f"{type(network).__name__.lower()}, raster", network, raster)
        yield Case(f"{type(network).__name__.lower()}, GeoTIFF", network, raster, files=True)


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
        pieces = Box.whole(self._case.shape[1:]).split(self.window)
        with steady_heap():
            for piece in pieces:
                self._backend.run(self._layout.to_batch(self._image.voxels[(slice(None), *piece.slices)]))

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
        "--size", type=float, default=0.5, help="length of each axis, of 160 x 192 x 160 and 1500 x 1500"
    )
    parser.add_argument("--only", default="", help="run the cases whose names contain this")
    asked = parser.parse_args()
    titles = f"{'tiles':>6}{'stream/bare':>13}{'its CPU':>9}{'stream/plain':>14}{'ns/voxel':>10}"
    print(f"{'case':<24}{'shape':<22}{'window':<18}{titles}")
    for case in cases(asked.size):
        if asked.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(case, Path(folder))
            bench.stream()
            rounds = [[cost(way) for way in (bench.stream, bench.bare, bench.plain)] for _ in range(asked.repeats)]
        stream, bare, plain = np.median(np.array(rounds), axis=0).tolist()
        shape, window = ("x".join(map(str, numbers)) for numbers in (case.shape, bench.window))
        voxel = stream[0] / np.prod(case.shape) * 1e9
        ratios = f"{stream[0] / bare[0]:>13.3f}{stream[1] / bare[1]:>9.3f}{stream[0] / plain[0]:>14.3f}"
        print(f"{case.name:<24}{shape:<22}{window:<18}{bench.tiles:>6}{ratios}{voxel:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
