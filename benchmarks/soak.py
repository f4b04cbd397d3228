"""Claim: a thousand mixed jobs in one process leave memory and open files where they were.

Good and broken NIfTI, GeoTIFF and zarr take turns through the command line's own function. The first jobs fill caches
and load libraries; after these, resident memory may grow by no more than --slack bytes a job, and no file stays open.

    python -m benchmarks.soak [--jobs 1000]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from benchmarks._bench import table
from geomedsr.cli import run_command
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.io import format_of

Spoil = Callable[[Path], object]

OUTPUTS = {
    "nifti": ("a.nii", ".nii.gz"),
    "gzipped nifti": ("a.nii.gz", ".nii"),
    "geotiff": ("a.tif", ".tif"),
    "geotiff to cog": ("a.tif", ".tif"),
    "zarr to zarr": ("a.zarr", ".zarr"),
    "zarr to geotiff": ("a.zarr", ".tif"),
    "geotiff to zarr": ("a.tif", ".zarr"),
}
BROKEN: dict[str, tuple[str, Spoil]] = {
    "cut nifti": ("a.nii", lambda path: path.write_bytes(path.read_bytes()[:400])),
    "damaged gzip": ("a.nii.gz", lambda path: path.write_bytes(path.read_bytes()[:-6] + bytes(6))),
    "no tiff": ("a.tif", lambda path: path.write_bytes(b"not a tiff")),
    "cut tiff": ("a.tif", lambda path: path.write_bytes(path.read_bytes()[:-300])),
    "broken zarr": ("a.zarr", lambda path: (path / "zarr.json").write_text('{"zarr_format":')),
    "cut chunk": ("a.zarr", lambda path: next(path.rglob("c/0/*")).write_bytes(b"cut")),
    "missing file": ("a.tif", lambda path: path.unlink()),
}


def image(path: Path) -> Path:
    """A small volume or raster."""
    shape = (12, 10, 8) if ".nii" in path.name else (48, 40)
    grid = Grid.plain(shape)
    spec = ImageSpec(grid, ("one",), np.dtype(np.uint16))
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(shape), np.random.default_rng(0).integers(0, 999, (1, *shape)).astype(np.float32))
    sink.commit()
    return path


def job(folder: Path, number: int, kinds: list[str]) -> tuple[str, int]:
    """One job, good or bad; what it was, and its exit code."""
    kind = kinds[number % len(kinds)]
    here = folder / str(number)
    here.mkdir()
    name, suffix = OUTPUTS.get(kind) or (BROKEN[kind][0], ".tif" if ".nii" not in BROKEN[kind][0] else ".nii")
    source = image(here / name)
    if kind in BROKEN:
        BROKEN[kind][1](source)
    more = ["--format", "cog"] if kind.endswith("cog") else []
    model = ("cubic", "linear", "lanczos")[number % 3]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        out = str(here / f"out{suffix}")
        return kind, run_command(["upscale", str(source), "-o", out, "-m", model, "--scale", "2", "-q", *more])


def held() -> tuple[int, int, int, int]:
    """Resident bytes, open files, threads, and objects that Python keeps."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds(), threading.active_count(), len(gc.get_objects())


def main() -> int:
    """Runs the jobs and prints how much was held after each tenth; 0 where it stays flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--slack", type=int, default=16 << 10, help="bytes that resident memory may grow by for a job")
    asked = parser.parse_args()
    kinds, rows, codes, marks = [*OUTPUTS, *BROKEN], [], Counter[tuple[str, int]](), []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="soak") as scratch:
        for number in range(asked.jobs):
            codes[job(Path(scratch), number, kinds)] += 1
            if (number + 1) % max(asked.jobs // 10, 1) == 0:
                rss, files, threads, objects = held()
                marks.append((rss, files))
                seconds = f"{time.perf_counter() - began:.0f}"
                rows.append([number + 1, f"{rss / 2**20:.1f}", files, threads, f"{objects:,}", seconds])
    print(table(["jobs", "resident MiB", "open files", "threads", "objects", "s"], rows))
    told = ", ".join(f"{kind} {code}: {count}" for (kind, code), count in sorted(codes.items()))
    print(f"\nexit codes: {told}")
    return verdict(marks, asked.jobs, asked.slack, codes)


def verdict(marks: list[tuple[int, int]], jobs: int, slack: int, codes: Counter[tuple[str, int]]) -> int:
    """Says whether what is held stayed flat over the last four fifths, and each job ended as it should."""
    (first, files), (last, after) = marks[1], marks[-1]
    grown = (last - first) / (0.8 * jobs)
    is_right = all((code == 0) is (kind in OUTPUTS) for kind, code in codes)
    is_flat = grown <= slack and after <= files
    print(
        f"from {jobs // 5} to {jobs} jobs: {grown / 1024:+.2f} KiB resident a job, {after - files:+d} open files; "
        f"{'flat' if is_flat else 'NOT FLAT'}; answers {'all as they should be' if is_right else 'WRONG'}"
    )
    return int(not (is_flat and is_right))


if __name__ == "__main__":
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1700000000")
    sys.exit(main())
