"""Whether all is well with an installation: versions, devices, memory, and one small image through each format."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr import __version__, registry
from geomedsr.errors import GeomedsrError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.run.speed import benchmark as measure
from geomedsr.run.speed import benchmark_lines

__all__ = ["examine", "lines"]

_PACKAGES = (
    "torch",
    "monai",
    "accelerate",
    "numpy",
    "nibabel",
    "rasterio",
    "zarr",
    "numcodecs",
    "isal",
    "zlib-ng",
    "openvino",
)
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_TRIED = {"nifti": ".nii.gz", "geotiff": ".tif", "zarr_archive": ".zarr"}


def examine(*, benchmark: bool = False) -> dict[str, Any]:
    """What was found, as plain JSON values; `well` says whether images can be read and written."""
    measured = {"speed": measure()} if benchmark else {}
    formats = {name: _try_format(suffix) for name, suffix in _TRIED.items()}
    return {
        "geomedsr": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "gdal": _gdal(),
        "devices": _devices(),
        "cpu": {"cores": _cores(), "bf16": _cpu_has_bf16()},
        "memory": _memory(),
        "scratch": tempfile.gettempdir() if os.access(tempfile.gettempdir(), os.W_OK) else None,
        "formats": formats,
        **measured,
        "well": all(text == "ok" for text in formats.values()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gdal() -> str | None:
    try:
        registry.load("io", "geotiff")
    except ModuleNotFoundError:  # told where the formats are tried
        return None
    # Asked of the module that the GeoTIFF reader has loaded: rasterio has one door, and this is not it.
    return getattr(sys.modules.get("rasterio"), "__gdal_version__", None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *(f"cuda:{i} {name}" for i, name in enumerate(cuda))]


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself, rather than slowly in software."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags.split()


def _memory() -> dict[str, int | None]:
    import psutil

    limits = [int(text) for path in _CGROUPS if path.exists() and (text := path.read_text().strip()).isdigit()]
    total = psutil.virtual_memory().total
    return {
        "total": total,
        "available": psutil.virtual_memory().available,
        "limit": min((limit for limit in limits if limit < total), default=None),
    }


def _try_format(suffix: str) -> str:
    """Writes and reads a small image: "ok", or what went wrong."""
    grid = Grid.of((6, 5), np.array([[0, 10.0, 0], [-10.0, 0, 60.0], [0, 0, 1]]), units="m")
    if suffix == ".nii.gz":
        grid = Grid.of((6, 5, 4), np.diag([1.0, 1.0, 2.0, 1.0]), units="mm")
    image = Image.of(
        np.arange(grid.shape[0] * grid.shape[1] * 4, dtype=np.float32)[None, : int(np.prod(grid.shape))].reshape(
            1, *grid.shape
        ),
        grid,
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            return (
                "ok" if np.array_equal(_round_trip(image, Path(folder) / f"try{suffix}"), image.voxels) else "altered"
            )
    except (GeomedsrError, OSError) as error:
        return str(error)


def _round_trip(image: Image, path: Path) -> np.ndarray[Any, Any]:
    whole = Box.whole(image.spec.grid.shape)
    sink = format_of(path).create_sink(path, image.spec)
    sink.write(whole, image.voxels)
    sink.commit()
    source = format_of(path).open_source(path)
    try:
        return source.read(whole)
    finally:
        source.close()


def lines(findings: dict[str, Any]) -> str:
    """The findings as a person reads them."""
    memory = findings["memory"]
    limit = f", {memory['limit'] / 1e9:.1f} GB allowed" if memory["limit"] else ""
    rows = {
        "geomedsr": f"{findings['geomedsr']} on Python {findings['python']}, {findings['system']}",
        "devices": ", ".join(findings["devices"]),
        "cores": f"{findings['cpu']['cores']}, bfloat16 in hardware: {'yes' if findings['cpu']['bf16'] else 'no'}",
        "memory": f"{memory['total'] / 1e9:.1f} GB, {memory['available'] / 1e9:.1f} GB free{limit}",
        "GDAL": findings["gdal"] or "not found",
        "packages": ", ".join(f"{name} {number or 'missing'}" for name, number in findings["packages"].items()),
        "scratch": findings["scratch"] or "no temporary folder can be written",
        **{f"format {name}": text for name, text in findings["formats"].items()},
        "all well": "yes" if findings["well"] else "no",
    }
    speed = [benchmark_lines(findings["speed"])] if "speed" in findings else []
    return "\n".join([*(f"{name:<20} {value}" for name, value in rows.items()), *speed])
