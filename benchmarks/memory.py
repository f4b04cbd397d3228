"""Peak memory of a whole `upscale` does not grow with the image: fsrcnn x2 on 4-band uint16 GeoTIFFs of any size.

Each size runs in a process of its own, from a generated file to a file; its peak resident memory is the system's own
count. Input and output are removed afterwards; the largest needs some 10 GB of disk.

    python -m benchmarks.memory 4000 16000
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks._bench import peak
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec


def generate(path: Path, length: int) -> None:
    """A 4 x length x length GeoTIFF of uint16, written block by block."""
    from geomedsr.io import geotiff

    grid = Grid.of(
        (length, length), np.array([[0.0, 10.0, 5e5], [-10.0, 0.0, 5e6], [0.0, 0.0, 1.0]]), "EPSG:32632", "m"
    )
    spec = ImageSpec(grid, ("blue", "green", "red", "nir"), np.dtype(np.uint16))
    sink = geotiff.create_sink(path, spec)
    rng = np.random.default_rng(0)
    for box in Box.whole(grid.shape).split((512, 2048)):
        rows, columns = np.mgrid[box.slices].astype(np.float32)
        field = 1500 + 900 * np.sin(rows / 31) * np.cos(columns / 23)
        bands = np.stack([field * (1 + 0.2 * band) for band in range(4)])
        sink.write(box, (bands + rng.normal(0, 30, bands.shape)).astype(np.float32))
    sink.commit()


def upscale(source_path: Path, target: Path, memory: int | None, answer: Connection) -> None:
    """The job, and what it took: peak resident bytes, seconds, window."""
    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.io import geotiff
    from geomedsr.networks import fsrcnn
    from geomedsr.task import Task

    began = time.perf_counter()
    upscaler = Upscaler(fsrcnn.build(Task(2, 4, (2, 2))), None, memory=memory)
    source = geotiff.open_source(source_path)
    sink = geotiff.create_sink(target, source.spec.upscaled(upscaler.factor_for(source.spec)))
    outcome = upscaler.run(source, sink)
    answer.send((peak(), time.perf_counter() - began, outcome.window, outcome.waited))


def measure(length: int, memory: int | None, folder: Path) -> float:
    """Prints a row for one size, and gives its peak in MiB."""
    source, target = folder / "source.tif", folder / "target.tif"
    context = multiprocessing.get_context("spawn")
    maker = context.Process(target=generate, args=(source, length))
    maker.start()
    maker.join()
    here, there = context.Pipe()
    worker = context.Process(target=upscale, args=(source, target, memory, there))
    worker.start()
    there.close()
    most, seconds, window, waited = here.recv()
    worker.join()
    cost = seconds / length**2 * 1e9
    print(f"{length:>8}{most / 2**20:>12.0f}{cost:>12.0f}{waited:>10.0%}   {window[0]} x {window[1]}", flush=True)
    return float(most)


def main() -> None:
    """Runs the sizes and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lengths", type=int, nargs="*", default=[2000, 4000])
    parser.add_argument("--memory", type=int, help="bytes for tiles (default: chosen by the machine)")
    asked = parser.parse_args()
    print(f"{'length':>8}{'peak MiB':>12}{'ns/voxel':>12}{'waited':>10}   window")
    peaks = []
    for length in asked.lengths:
        with tempfile.TemporaryDirectory() as folder:
            peaks.append(measure(length, asked.memory, Path(folder)))
    print(f"last over first: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
