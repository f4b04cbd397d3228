"""What files cost beside the network: a CT volume, int16 in `.nii.gz`, to x2 in plane with fsrcnn, in `.nii.gz` again.

- ours: the stream from file to file.
- nibabel: the usual script: load, the same network on the same slices, `nibabel.save`.
- bare: the forward passes alone. What a way takes beyond it is the share that is not inference.
- reading, writing: ours alone, without the network.

Each runs in a process of its own, whose peak memory is told. Raster: GeoTIFF by the codecs that there are, alone.

    python -m benchmarks.files --size 0.5 --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks._bench import bars, peak_of, table
from geomedsr.grid import Box, Grid, Shape
from geomedsr.image import Image, ImageSpec, Source, Voxels


def _network() -> tuple[object, object]:
    from benchmarks._bench import trained
    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.networks import fsrcnn
    from geomedsr.task import Task

    network = trained(fsrcnn.build(Task(2, 1, (2, 2))))
    return network, Upscaler(network, None, axes=(0, 1))  # type: ignore[arg-type]


def _slab(shape: Shape, first: int, count: int) -> Voxels:
    """Slices of a body in air, in HU, with noise."""
    i, j, k = np.ogrid[: shape[0], : shape[1], first : first + count]
    radius = np.hypot((i / shape[0] - 0.5) / 0.42, (j / shape[1] - 0.5) / 0.33)
    organs = 60 * np.sin(i / 17.0) * np.cos(j / 23.0) * np.sin(k / 11.0)
    body = np.where(radius < 1, 40 + organs, -1000.0) + np.where(np.abs(radius - 0.9) < 0.03, 700.0, 0.0)
    noise = np.random.default_rng(first).normal(0, 12, body.shape)
    return np.rint(body + noise).astype(np.float32)[None]


def make(path: Path, shape: Shape) -> None:
    """The CT."""
    from geomedsr.io import nifti

    spec = ImageSpec(Grid.of(shape, np.diag([0.7, 0.7, 1.0, 1.0]), units="mm"), ("ct",), np.dtype(np.int16))
    sink = nifti.create_sink(path, spec)
    for first in range(0, shape[2], 16):
        count = min(16, shape[2] - first)
        sink.write(Box((0, 0, first), (*shape[:2], first + count)), _slab(shape, first, count))
    sink.commit()


def ours(path: Path, target: Path) -> float:
    """The stream from file to file; gives its seconds, as all of these do."""
    from geomedsr.io import nifti

    _, upscaler = _network()
    began = time.perf_counter()
    source = nifti.open_source(path)
    sink = nifti.create_sink(target, source.spec.upscaled(upscaler.factor_for(source.spec)))  # type: ignore[attr-defined]
    upscaler.run(source, sink)  # type: ignore[attr-defined]
    return time.perf_counter() - began


def nibabel(path: Path, target: Path) -> float:
    """The usual script."""
    import nibabel as nib

    from geomedsr.inference.backend import TorchBackend

    network, _ = _network()
    backend = TorchBackend(network)  # type: ignore[arg-type]
    began = time.perf_counter()
    image = nib.load(path)
    voxels = np.asarray(image.dataobj, np.float32)
    finer = np.empty((2 * voxels.shape[0], 2 * voxels.shape[1], voxels.shape[2]), np.int16)
    for first in range(0, voxels.shape[2], 4):
        batch = np.ascontiguousarray(voxels[:, :, first : first + 4].transpose(2, 0, 1)[:, None])
        finer[:, :, first : first + 4] = np.rint(backend.run(batch)[:, 0].transpose(1, 2, 0)).clip(-32768, 32767)
    nib.save(nib.Nifti1Image(finer, image.affine), target)
    return time.perf_counter() - began


def bare(path: Path, target: Path) -> float:
    """The forward passes, on as many slices at a time as the stream takes."""
    from geomedsr.inference.backend import TorchBackend
    from geomedsr.inference.memory import steady_heap
    from geomedsr.io import nifti

    del target
    network, _ = _network()
    backend, source = TorchBackend(network), nifti.open_source(path)  # type: ignore[arg-type]
    shape, spent = source.spec.grid.shape, 0.0
    with steady_heap():
        for first in range(0, shape[2], 4):
            voxels = source.read(Box((0, 0, first), (*shape[:2], min(first + 4, shape[2]))))
            batch = np.ascontiguousarray(voxels[0].transpose(2, 0, 1)[:, None])
            began = time.perf_counter()
            backend.run(batch)
            spent += time.perf_counter() - began
    return spent


def reading(path: Path, target: Path) -> float:
    """Ours, the input alone."""
    from geomedsr.io import nifti

    del target
    began = time.perf_counter()
    source = nifti.open_source(path)
    _walk(source)
    return time.perf_counter() - began


def _walk(source: Source) -> None:
    shape = source.spec.grid.shape
    for first in range(0, shape[2], 8):
        source.read(Box((0, 0, first), (*shape[:2], min(first + 8, shape[2]))))


def writing(path: Path, target: Path) -> float:
    """Ours, the output alone: the input's voxels repeated, with a noise of their own, as they would be written."""
    from geomedsr.io import nifti

    source = nifti.open_source(path)
    spec, spent = source.spec.upscaled((2, 2, 1)), 0.0
    began = time.perf_counter()
    sink = nifti.create_sink(target, spec)
    spent += time.perf_counter() - began
    shape = source.spec.grid.shape
    for first in range(0, shape[2], 8):
        last = min(first + 8, shape[2])
        voxels = source.read(Box((0, 0, first), (*shape[:2], last))).repeat(2, 1).repeat(2, 2)
        began = time.perf_counter()
        sink.write(Box((0, 0, first), (*spec.grid.shape[:2], last)), voxels)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    sink.commit()
    return spent + time.perf_counter() - began


def rasters(length: int, folder: Path) -> str:
    """What each codec of GeoTIFF costs for a 4-band uint16 scene."""
    from geomedsr.io import geotiff

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:length, :length].astype(np.float32)
    scene = 1500 + 900 * np.sin(rows / 31) * np.cos(columns / 23)
    image = Image.of(np.stack([scene * (1 + 0.2 * band) + rng.normal(0, 30, scene.shape) for band in range(4)]))
    spec, raw = replace(image.spec, dtype=np.dtype(np.uint16)), image.voxels.size * 2
    found = []
    for compress in ("DEFLATE", "ZSTD", "LZW", "NONE"):
        path = folder / f"{compress}.tif"
        began, spent = time.perf_counter(), time.process_time()
        sink = geotiff.create_sink(path, spec, {"COMPRESS": compress})
        sink.write(Box.whole(spec.grid.shape), image.voxels)
        sink.commit()
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        began = time.perf_counter()
        geotiff.open_source(path).read(Box.whole(spec.grid.shape))
        rates = (raw / seconds / 1e6 for seconds in (wall, cpu, time.perf_counter() - began))
        found.append((compress, *(f"{rate:.0f}" for rate in rates), f"{path.stat().st_size / raw:.2f}"))
    return table(("codec", "written MB/s", "MB/s of a core", "read MB/s", "size / raw"), found)


def main() -> None:
    """Runs the ways and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=0.5, help="length of each axis, of 512 x 512 x 600")
    parser.add_argument("--out", type=Path, help="folder for the picture")
    asked = parser.parse_args()
    shape = tuple(max(16, int(n * asked.size)) for n in (512, 512, 600))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "ct.nii.gz"
        make(path, shape)
        found = {way.__name__: peak_of(way, path, folder / f"{way.__name__}.nii.gz")
                 for way in (bare, ours, nibabel, reading, writing)}  # fmt: skip
        inference = float(str(found["bare"][1]))
        rows = []
        for way, (peak, seconds) in found.items():
            taken = float(str(seconds))
            share = f"{max(0.0, 1 - inference / taken):.0%}" if way in ("ours", "nibabel") else ""
            rows.append((way, f"{taken:.1f}", share, f"{peak / 2**20:.0f}"))
        print(f"\nfsrcnn x2 in plane, {' x '.join(map(str, shape))} int16, .nii.gz\n")
        print(table(("way", "seconds", "not inference", "peak MiB"), rows), flush=True)
        print(f"\nGeoTIFF, 4 bands of uint16\n\n{rasters(max(256, int(4000 * asked.size)), folder)}")
    if asked.out:
        bars(asked.out / "files.png", "fsrcnn x2 in plane, .nii.gz", "s",
             {way: float(str(seconds)) for way, (_, seconds) in found.items()})  # fmt: skip


if __name__ == "__main__":
    main()
