"""What the raster tests share: files made with rasterio alone, and a pass through source and sink."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from geomedsr.grid import Box, Factor
from geomedsr.image import ImageSpec
from geomedsr.io import geotiff

UTM = Affine(10.0, 0.0, 300000.0, 0.0, -10.0, 5000000.0)


def quiet(path: Path, *args: Any, **options: Any) -> Any:
    """rasterio.open without its warning about rasters that have no place in the world."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, *args, **options)


def make(
    path: Path,
    voxels: NDArray[Any],
    dress: Callable[[Any], object] | None = None,
    *,
    placed: bool = True,
    **options: Any,
) -> Path:
    """A GeoTIFF of an array (C, rows, columns); `dress` writes what else it says."""
    count, rows, columns = voxels.shape
    place = {"crs": "EPSG:32633", "transform": UTM} if placed else {}
    profile = {"driver": "GTiff", "count": count, "height": rows, "width": columns, "dtype": voxels.dtype.name}
    with quiet(path, "w", **{**profile, **place, **options}) as dataset:
        if dress is not None:
            dress(dataset)
        dataset.write(voxels)
    return path


def upscale(
    path: Path,
    out: Path,
    factor: Factor = (2, 2),
    options: Mapping[str, str] | None = None,
    change: Callable[[ImageSpec], ImageSpec] = lambda spec: spec,
) -> Path:
    """Repeats each voxel, box by box, through the source and the sink."""
    source = geotiff.open_source(path)
    spec = change(source.spec)
    index = spec.extra.get("channels", tuple(range(len(spec.channels))))
    sink = geotiff.create_sink(out, spec.upscaled(factor), options)
    try:
        for box in Box.whole(spec.grid.shape).split((8, 16)):
            voxels = source.read(box)[list(index)]  # type: ignore[call-overload]
            sink.write(box.scaled(factor), repeated(voxels, factor))
        sink.commit()
    finally:
        sink.abort()
        source.close()
    return out


def repeated(array: NDArray[Any], factor: Factor) -> NDArray[Any]:
    """Each voxel repeated on the last two axes."""
    return array.repeat(factor[0], axis=-2).repeat(factor[1], axis=-1)


def ramp(count: int, rows: int, columns: int, dtype: str) -> NDArray[Any]:
    """Different values in each voxel and band."""
    values = np.arange(count * rows * columns).reshape(count, rows, columns) % 97 + 10
    return values.astype(dtype)
