"""Archives to try things on, and the command lines that upscale them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec

BANDS = ("blue", "green", "red", "nir")


def generate(path: Path, length: int, chunk: int = 1024) -> Path:
    """A 4 x length x length zarr of uint16, written block by block."""
    from geomedsr.io import zarr_archive

    affine = np.array([[0.0, 10.0, 5e5], [-10.0, 0.0, 5e6], [0.0, 0.0, 1.0]])
    spec = ImageSpec(Grid.of((length, length), affine, "EPSG:32632", "m"), BANDS, np.dtype(np.uint16))
    sink = zarr_archive.create_sink(path, spec, {"chunks": str(chunk)})
    rng = np.random.default_rng(0)
    for box in Box.whole(spec.grid.shape).split((chunk, chunk)):
        rows, columns = np.mgrid[box.slices].astype(np.float32)
        field = 1500 + 900 * np.sin(rows / 31) * np.cos(columns / 23)
        bands = np.stack([field * (1 + 0.2 * band) for band in range(4)])
        sink.write(box, (bands + rng.normal(0, 30, bands.shape)).astype(np.float32))
    sink.commit()
    return path


LINEAR = ("linear", "--scale", "2", "--tile", "256")


def command(source: Path | str, out: Path | str, *more: str, model: tuple[str, ...] = LINEAR) -> list[str]:
    """The program's command line."""
    return [sys.executable, "-m", "geomedsr", "upscale", str(source), "-o", str(out), "-m", *model, "-q", *more]


def words(model: str) -> tuple[str, ...]:
    """The command line's words for a model."""
    return (model,) if model == "s2-rgbn-x2" else (model, "--scale", "2", "--tile", "256")


def run(arguments: list[str]) -> float:
    """Seconds that a command took, which must succeed."""
    began = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def digest(folder: Path) -> str:
    """One checksum of all files and names below a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]
