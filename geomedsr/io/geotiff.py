"""Rasters: GeoTIFF in and out, and JPEG 2000 and virtual rasters in. The one door to GDAL.

Axes are (row, col). GDAL's transform maps voxel edges, as `Grid` does, so nothing is shifted here; a file whose voxels
are points (AREA_OR_POINT) is converted by GDAL itself. Nodata, masks and an opaque-or-not alpha band all become NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geomedsr.errors import GridError, InputError, OutputError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Sink, Source, Voxels
from geomedsr.io._coding import Coding, scaling_of
from geomedsr.io._geotiff_directory import read_directory
from geomedsr.io._geotiff_gdal import FAILURES, Complaints, driver_of, gdal, open_for_reading, reason_of
from geomedsr.io._geotiff_jp2 import check_jp2
from geomedsr.io._geotiff_options import creation_of
from geomedsr.io._geotiff_passport import Passport, passport_of
from geomedsr.io._geotiff_plan import planned
from geomedsr.io._geotiff_sink import GeotiffSink
from geomedsr.io._geotiff_vrt import sources_of

__all__ = ["SUFFIXES", "check_options", "create_sink", "members", "open_source", "target_spec"]

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
_WRITABLE = (".tif", ".tiff")


def members(path: Path) -> Iterator[Path]:
    """The one image of a raster file."""
    yield path


def open_source(path: Path) -> Source:
    """The raster for reading.

    Raises:
        InputError: it is missing, damaged, or not a raster that is read here.
    """
    _check(path)
    return _GeotiffSource(path)


def target_spec(path: Path, spec: ImageSpec) -> ImageSpec:
    """What will be read back from a raster of this image.

    Raises:
        OutputError: a raster of this name cannot hold it.
    """
    _check_writable(path)
    return planned(path, spec).applied_to(spec)


def create_sink(path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> Sink:
    """The raster for writing; `options` are GDAL's creation options, and FORMAT=COG makes it cloud-optimised.

    Raises:
        OutputError: it cannot be written there, or not as asked.
    """
    _check_writable(path)
    return GeotiffSink(path, spec, options)


def check_options(path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
    """Refuses options that `create_sink` would, without touching the disk.

    Raises:
        OutputError: an unknown option, or a value that cannot be.
    """
    _check_writable(path)
    plan = planned(path, spec)
    creation_of(path, spec.grid.shape, plan.count, plan.dtype, plan.passport.interleave, options)


def _check_writable(path: Path) -> None:
    if path.suffix.lower() not in _WRITABLE:
        raise OutputError(f"{path.name}: {path.suffix} is only read; write {' or '.join(_WRITABLE)} instead.")


class _GeotiffSource:
    """Reads boxes of an open raster. The handle opens again by itself after `close` or in another process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dataset: DatasetReader | None = None
        with gdal() as complaints, self._failures(complaints):
            dataset, placed = self._open()
            self._passport = _described(path, dataset, placed)
            self.spec = _spec(self._passport, dataset.block_shapes[0])
        self._codings = [Coding(self._passport.dtype, band.nodata, band.scaling) for band in self._passport.bands]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def read(self, box: Box) -> Voxels:
        """The voxels of a box.

        Raises:
            InputError: the file is damaged there.
        """
        box.check_inside(self.spec.grid.shape)
        window = Window(box.start[1], box.start[0], box.shape[1], box.shape[0])
        with gdal() as complaints, self._failures(complaints):
            dataset = self._dataset or self._open()[0]
            try:
                stored = dataset.read([band.index for band in self._passport.bands], window=window)
                hidden = _hidden(dataset, self._passport, window)
            except FAILURES as error:
                where = f"voxels {box.start} to {box.stop}"
                raise InputError(
                    f"{self._path} cannot be read in its {where}: {reason_of(error, complaints)}."
                ) from error
        voxels = np.empty(stored.shape, np.float32)
        for coding, band, out in zip(self._codings, stored, voxels, strict=True):
            out[:] = coding.physical(band)
        if hidden is not None:
            voxels[np.broadcast_to(hidden, voxels.shape)] = np.nan
        return voxels

    def close(self) -> None:
        """Lets go of the file; reading again opens it again."""
        if self._dataset is not None:
            with gdal():
                self._dataset.close()
            self._dataset = None

    def _open(self) -> tuple[DatasetReader, bool]:
        self._dataset, placed = open_for_reading(self._path)
        return self._dataset, placed

    @contextmanager
    def _failures(self, complaints: Complaints) -> Iterator[None]:
        try:
            yield
        except GridError as error:
            raise InputError(f"{self._path} has a geometry that cannot be: {error}") from error
        except FAILURES as error:
            raise InputError(f"{self._path} cannot be read: {reason_of(error, complaints)}.") from error
        if complaints.errors:
            raise InputError(f"{self._path} is damaged: {complaints.last}.")


def _described(path: Path, dataset: DatasetReader, placed: bool) -> Passport:
    if dataset.count == 0:
        raise InputError(f"{path} holds no voxels: it has no band.")
    if len(dataset.subdatasets) > 1:
        raise InputError(f"{path} holds {len(dataset.subdatasets)} images in one file; write each into its own file.")
    if any("complex" in name for name in dataset.dtypes):
        raise InputError(f"{path} holds {dataset.dtypes[0]} values; only real ones are read.")
    for scale, offset in zip(dataset.scales, dataset.offsets, strict=True):
        if scale == 0 or not math.isfinite(scale) or not math.isfinite(offset):
            raise InputError(f"{path} has a band of scale {scale} and offset {offset}; a scale is finite and not 0.")
    return passport_of(path, dataset, placed)


def _hidden(dataset: DatasetReader, passport: Passport, window: Window) -> NDArray[np.bool_] | None:
    """What the mask or the alpha band hides, on top of nodata."""
    if passport.alpha is not None:
        return np.asarray(dataset.read(passport.alpha.index, window=window) == 0)
    if passport.mask == "none":
        return None
    indexes = [band.index for band in passport.bands]
    which = indexes if passport.mask == "band" else indexes[0]
    return np.asarray(dataset.read_masks(which, window=window) == 0)


def _spec(passport: Passport, chunks: tuple[int, int]) -> ImageSpec:
    extra: dict[str, object] = {"geotiff": passport}
    if passport.colormap:
        extra["palette"] = True
    scaling = scaling_of(band.scaling for band in passport.bands)
    return ImageSpec(
        passport.grid,
        passport.names,
        passport.dtype,
        passport.nodata,
        chunks,
        extra,
        scaling,
        passport.has_holes,
        passport.provenance,
    )


def _check(path: Path) -> None:
    """Looks at the bytes before GDAL does: is it there, is it what its name says, is it whole."""
    try:
        if not path.is_file():
            raise InputError(
                f"{path} is a folder, not a raster file." if path.is_dir() else f"There is no file {path}."
            )
        if not path.stat().st_size:
            raise InputError(f"{path} is empty.")
        driver = driver_of(path)
        if driver == "VRT":
            for source in sources_of(path):
                _check_source(path, source)
        elif driver == "GTiff":
            read_directory(path).check()
        else:
            check_jp2(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_source(path: Path, source: Path) -> None:
    """Opens a file of a virtual raster under the one driver that its name allows; GDAL would try them all."""
    _check(source)
    try:
        with gdal():
            open_for_reading(source)[0].close()
    except FAILURES as error:
        raise InputError(f"{path} names {source}, which cannot be read: {error}.") from error
