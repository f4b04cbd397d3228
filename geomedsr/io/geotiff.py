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
from geomedsr.image import ImageSpec, Scaling, Sink, Source, Voxels
from geomedsr.io._coding import Coding, is_beyond_float32, scaling_of
from geomedsr.io._geotiff_beside import check_beside
from geomedsr.io._geotiff_directory import Directory, read_directory
from geomedsr.io._geotiff_gdal import FAILURES, Complaints, driver_of, gdal, open_for_reading, reason_of
from geomedsr.io._geotiff_jp2 import check_jp2
from geomedsr.io._geotiff_nodata import without_false_nodata
from geomedsr.io._geotiff_options import creation_of
from geomedsr.io._geotiff_passport import Passport, passport_of
from geomedsr.io._geotiff_plan import planned
from geomedsr.io._geotiff_sink import GeotiffSink
from geomedsr.io._geotiff_vrt import sources_of
from geomedsr.io._limits import limits

__all__ = ["SUFFIXES", "check_options", "create_sink", "files_of", "members", "open_source", "target_spec"]

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
_WRITABLE = (".tif", ".tiff")


def members(path: Path) -> Iterator[Path]:
    """The one image of a raster file."""
    yield path


def files_of(path: Path) -> list[Path]:
    """The files that a raster's voxels come from: itself, and those that a virtual one names.

    Raises:
        InputError: it names what it may not.
    """
    return [path, *(sources_of(path) if driver_of(path) == "VRT" else [])]


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
            self._passport, doubts = _described(path, dataset, placed, complaints)
            self.spec = _spec(self._passport, dataset.block_shapes[0], doubts)
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
        place = f"{self._path} cannot be read in its voxels {box.start} to {box.stop}"
        dataset = self._dataset or self._opened_again()
        with gdal() as complaints, self._failures(complaints):
            try:
                stored = dataset.read([band.index for band in self._passport.bands], window=window)
                hidden = _hidden(dataset, self._passport, window)
            except FAILURES as error:
                raise InputError(f"{place}: {reason_of(error, complaints)}.") from error
            if complaints.damage:
                raise InputError(f"{place}: {complaints.damage}.")
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

    def _opened_again(self) -> DatasetReader:
        """The dataset, with what GDAL says of it said before any of its voxels are read."""
        with gdal() as complaints, self._failures(complaints):
            return self._open()[0]

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


def _described(
    path: Path, dataset: DatasetReader, placed: bool, complaints: Complaints
) -> tuple[Passport, tuple[str, ...]]:
    """What an open raster says, and what of that is doubtful, in sentences."""
    if dataset.count == 0:
        raise InputError(f"{path} holds no voxels: it has no band.")
    if len(dataset.subdatasets) > 1:
        raise InputError(f"{path} holds {len(dataset.subdatasets)} images in one file; write each into its own file.")
    if any("complex" in name for name in dataset.dtypes):
        raise InputError(f"{path} holds {dataset.dtypes[0]} values; only real ones are read.")
    for scale, offset, dtype in zip(dataset.scales, dataset.offsets, dataset.dtypes, strict=True):
        if scale == 0 or not math.isfinite(scale) or not math.isfinite(offset):
            raise InputError(f"{path} has a band of scale {scale} and offset {offset}; a scale is finite and not 0.")
        if is_beyond_float32(np.dtype(dtype), Scaling(scale, offset)):
            raise InputError(f"{path} has a band of scale {scale}, which makes numbers beyond float32; mend it first.")
    _check_budgets(path, dataset)
    directory = read_directory(path) if driver_of(path) == "GTiff" else None
    if directory is not None:
        _check_place(directory, dataset, placed, complaints)
    passport, doubt = without_false_nodata(passport_of(path, dataset, placed), directory)
    if not passport.has_finite_points:
        raise InputError(f"{path} has a control point, or an RPC, that is not finite; mend it first.")
    return passport, (*complaints.doubts(path), *([doubt] if doubt else []))


def _check_budgets(path: Path, dataset: DatasetReader) -> None:
    limits().check_channels(path, dataset.count)
    limits().check_voxels(path, voxels := dataset.width * dataset.height * dataset.count)
    if not limits().remote:
        packed = sum(file.stat().st_size for file in files_of(path))
        limits().check_unpacked(path, packed=packed, unpacked=voxels * np.dtype(dataset.dtypes[0]).itemsize)


def _check_place(directory: Directory, dataset: DatasetReader, placed: bool, complaints: Complaints) -> None:
    """Refuses a file that says where it is when GDAL does not understand it, and goes on without."""
    why = f" ({complaints.last.rstrip('.')})" if complaints.last else ""
    points, points_crs = dataset.gcps
    is_known = (dataset.crs or points_crs) and not any("crs not found" in text for text in complaints.warnings)
    if directory.keys is not None and directory.keys.names_crs and not is_known:
        raise InputError(f"{directory.path} names a CRS in its GeoKeys, which cannot be read{why}; mend it first.")
    # Of a scale of 0, GDAL makes a control point.
    if directory.is_placed and not (placed and not (points and dataset.transform.is_identity)):
        raise InputError(f"{directory.path} has a scale or a transform, which cannot be read{why}; mend it first.")


def _hidden(dataset: DatasetReader, passport: Passport, window: Window) -> NDArray[np.bool_] | None:
    """What the mask or the alpha band hides, on top of nodata."""
    if passport.alpha is not None:
        return np.asarray(dataset.read(passport.alpha.index, window=window) == 0)
    if passport.mask == "none":
        return None
    indexes = [band.index for band in passport.bands]
    which = indexes if passport.mask == "band" else indexes[0]
    return np.asarray(dataset.read_masks(which, window=window) == 0)


def _spec(passport: Passport, chunks: tuple[int, int], doubts: tuple[str, ...]) -> ImageSpec:
    extra: dict[str, object] = {"geotiff": passport, "warnings": doubts}
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
            raise InputError(_what_else(path))
        if not path.stat().st_size:
            raise InputError(f"{path} is empty.")
        check_beside(path, lambda image: read_directory(image).check())
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


def _what_else(path: Path) -> str:
    """What there is instead of a file."""
    if not path.exists():
        return f"There is no file {path}."
    return f"{path} is a folder, not a raster file." if path.is_dir() else f"{path} is not a file."


def _check_source(path: Path, source: Path) -> None:
    """Opens a file of a virtual raster under the one driver that its name allows; GDAL would try them all."""
    _check(source)
    try:
        with gdal():
            open_for_reading(source)[0].close()
    except FAILURES as error:
        raise InputError(f"{path} names {source}, which cannot be read: {error}.") from error
