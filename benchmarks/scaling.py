"""How time and memory grow: images of x1, x4 and x16 as many pixels, and on the smallest one thread against two.

fsrcnn x2 on 4-band uint16 GeoTIFFs, from file to file, each in a process of its own. An image narrower than some 4000
voxels needs less than what tiles may take: `benchmarks.memory 4000 16000` tells how memory grows beyond.

    python -m benchmarks.scaling --size 2000 --repeats 3 --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._bench import bars, peak_of, table
from benchmarks.memory import generate


def upscale(path: Path, target: Path, threads: int) -> tuple[float, float]:
    """The job; gives its seconds, and those of the processor."""
    import torch

    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.io import geotiff
    from geomedsr.networks import fsrcnn
    from geomedsr.task import Task

    torch.set_num_threads(threads)
    upscaler = Upscaler(fsrcnn.build(Task(2, 4, (2, 2))), None)
    began, spent = time.perf_counter(), time.process_time()
    source = geotiff.open_source(path)
    sink = geotiff.create_sink(target, source.spec.upscaled(upscaler.factor_for(source.spec)))
    upscaler.run(source, sink)
    return time.perf_counter() - began, time.process_time() - spent


def main() -> None:
    """Runs the sizes and thread counts, in turns, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000, help="the length of the smallest image")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the picture")
    asked = parser.parse_args()
    cases = [(asked.size, 1), *((asked.size * times, 2) for times in (1, 2, 4))]
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for length in sorted({length for length, _ in cases}):
            generate(folder / f"{length}.tif", length)
        for _ in range(asked.repeats):
            for length, threads in cases:
                peak, took = peak_of(upscale, folder / f"{length}.tif", folder / "out.tif", threads)
                (folder / "out.tif").unlink()
                wall, cpu = (float(seconds) / length**2 * 1e9 for seconds in took)  # type: ignore[attr-defined]
                found[length, threads].append((wall, cpu, peak / 2**20))
    middle = {case: np.median(np.array(rows), axis=0) for case, rows in found.items()}
    rows = []
    for (length, threads), (wall, cpu, peak) in middle.items():
        first = middle[asked.size, threads]
        rows.append((threads, f"{length} x {length}", f"{wall:.0f}", f"{wall / first[0]:.2f}",
                     f"{cpu:.0f}", f"{cpu / first[1]:.2f}", f"{peak:.0f}", f"{peak / first[2]:.2f}"))  # fmt: skip
    titles = ("threads", "image", "ns/voxel", "over x1", "processor ns", "over x1", "peak MiB", "over x1")
    print(table(titles, rows))
    if asked.out:
        values = {f"{length}, {threads} threads": float(wall) for (length, threads), (wall, *_) in middle.items()}
        bars(asked.out / "scaling.png", "fsrcnn x2, GeoTIFF to GeoTIFF", "ns/voxel", values)


if __name__ == "__main__":
    main()
