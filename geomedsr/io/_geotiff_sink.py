"""A GeoTIFF that is written in boxes, beside its target, and looked at again before it takes the target's place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from geomedsr.errors import InputError, WriteFailedError
from geomedsr.grid import Box, Factor, Grid
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._coding import Coding
from geomedsr.io._geotiff_directory import read_directory
from geomedsr.io._geotiff_gdal import FAILURES, Complaints, gdal, georeferencing_optional, open_for_reading, reason_of
from geomedsr.io._geotiff_options import creation_of
from geomedsr.io._geotiff_passport import affine_of, grid_of
from geomedsr.io._geotiff_plan import planned
from geomedsr.io._geotiff_stamp import beyond_default, photometric_of, sidecar_of, stamp, written_crs
from geomedsr.io._staging import Staging, write_errors
from geomedsr.io._witness import Witness

__all__ = ["GeotiffSink"]

_REST = 64 * 1024
_SIDECARS = (".aux.xml", ".msk", ".ovr")


class GeotiffSink:
    """Writes voxels into a tiled GeoTIFF (or, on request, a COG).

    `spec.chunks` are the blocks: boxes that follow them are compressed once. Memory is one row of blocks of a box and
    GDAL's bounded cache, whatever the image.

    Raises:
        OutputError: the spec, the path or an option cannot be.
    """

    def __init__(self, path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> None:
        self.target = path
        self._plan = plan = planned(path, spec)
        creation = creation_of(path, spec.grid.shape, plan.count, plan.dtype, plan.passport.interleave, options)
        self.spec = replace(plan.applied_to(spec), chunks=creation.block)
        self._cog = creation.cog
        self._witness = Witness(path) if creation.is_exact else None
        self._staging = Staging(path)
        # A COG is copied from a plain tiled file: GDAL's driver then needs no memory for the image.
        self._file = self._staging.folder / "scratch.tif" if self._cog is not None else self._staging.path
        self._written = 0
        self._dataset: DatasetWriter | None = None
        self._alpha: DatasetReader | None = None
        try:
            with gdal() as complaints, self._failures(complaints):
                self._open(creation.options)
                self._alpha = plan.opened_alpha()
        except BaseException:
            self.abort()
            raise

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box: (C, *box.shape).

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the disk is full.
        """
        box.check_inside(self.spec.grid.shape)
        assert self.spec.chunks is not None
        with gdal() as complaints, self._failures(complaints):
            # One row of blocks at a time, so that a large box needs no large copies.
            for part in box.split((self.spec.chunks[0], max(box.shape[1], 1))):
                self._write(part, voxels[(slice(None), *part.relative_to(box.start).slices)])
        self._written += box.size
        # libtiff reports no failed write before the end, if at all; hours may lie between.
        if _is_full(self.target):
            raise WriteFailedError(_sentence(self.target, "no space is left"))

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The file appears, complete and looked at again, and by `verify` too before it takes its place.

        Raises:
            WriteFailedError: voxels are missing, or the disk is full.
        """
        try:
            self._staging.check_complete(self._written, self.spec.grid.shape)
            with gdal() as complaints, self._failures(complaints):
                self._close()
                if self._cog is not None:
                    rasterio.shutil.copy(self._file, self._staging.path, driver="COG", **self._cog)
            with write_errors(self.target):
                sidecar = self._sidecar()
            checks = (self._verify, *([verify] if verify else []))
            self._staging.publish(*([sidecar] if sidecar else []), checks=checks)
            self._drop_stale(sidecar)
        finally:
            self.abort()

    def abort(self) -> None:
        """Nothing appears; what was there before stays."""
        with gdal(), suppress(*FAILURES):
            self._close()
        self._staging.discard()

    def _open(self, options: Mapping[str, Any]) -> None:
        plan, grid = self._plan, self._plan.grid
        place = {"transform": affine_of(grid)} if plan.passport.placed else {}
        with georeferencing_optional():
            self._dataset = rasterio.open(
                self._file,
                "w",
                driver="GTiff",
                width=grid.shape[1],
                height=grid.shape[0],
                count=plan.count,
                dtype=plan.dtype.name,
                nodata=plan.nodatas[0] if plan.shares_nodata else None,
                crs=None if grid.crs is None else written_crs(grid.crs),
                PHOTOMETRIC=photometric_of(plan.bands, plan.colormap),
                ALPHA="NO",
                **place,
                **options,
            )
        stamp(self._dataset, plan.passport, plan.bands, plan.colormap, plan.factor)

    def _write(self, box: Box, voxels: Voxels) -> None:
        assert self._dataset is not None
        window = _window(box)
        stored = [coding.store(channel) for coding, channel in zip(self._plan.codings, voxels, strict=True)]
        if self._plan.mask in ("mask", "alpha"):
            hidden = self._hidden(voxels)
            if self._plan.mask == "mask":
                self._dataset.write_mask(np.where(hidden, np.uint8(0), np.uint8(255)), window=window)
            else:
                stored.insert(self._plan.alpha_at, self._opacity(box, hidden))
        bands = np.stack(stored)
        self._dataset.write(bands, window=window)
        if self._witness is not None:
            self._witness.saw(box, bands)

    def _hidden(self, voxels: Voxels) -> NDArray[np.bool_]:
        """Which voxels a mask must hide: those invalid in all bands, or in one that has no nodata to say so."""
        invalid = np.isnan(voxels)
        silent = [i for i, coding in enumerate(self._plan.codings) if coding.nodata is None]
        return np.asarray(invalid.all(axis=0) | invalid[silent].any(axis=0))

    def _opacity(self, box: Box, hidden: NDArray[np.bool_]) -> NDArray[Any]:
        """The alpha band: that of the coarse image, repeated, so that half-transparent edges stay what they are."""
        dtype, passport = self._plan.dtype, self._plan.passport
        alpha = np.full(box.shape, _opaque(dtype), dtype)
        if self._alpha is not None and passport.alpha is not None:
            coarse = _repeated(self._alpha, passport.alpha.index, box, self._plan.factor)
            shown = coarse > 0
            alpha[shown] = _opacity_in(dtype, coarse[shown], passport.dtype)
        alpha[hidden] = 0
        return alpha

    def _close(self) -> None:
        for handle in (self._dataset, self._alpha):
            if handle is not None:
                handle.close()

    def _sidecar(self) -> Path | None:
        plan, bands, tags = self._plan, self._plan.bands, self._plan.passport.tags
        lost = beyond_default if self._cog is not None else lambda _: ()
        bands = tuple(replace(band, tags=lost(band.tags)) for band in bands)
        return sidecar_of(self._staging.path, plan.nodatas, bands, lost(tags))

    def _verify(self, path: Path) -> None:
        """Reads the finished file again: GDAL reports a failed write at the end by a log line, or not at all."""
        plan = self._plan
        try:
            complete = read_directory(path).is_complete
            with gdal():
                dataset, placed = open_for_reading(path)
                with dataset:
                    found = grid_of(dataset, placed and plan.passport.placed)
                    same = dataset.count == plan.count and {*dataset.dtypes} == {plan.dtype.name}
                    if same and found.shape == plan.grid.shape and self._witness is not None:
                        self._witness.check(lambda box: dataset.read(window=_window(box)))
        except (*FAILURES, InputError) as error:
            raise WriteFailedError(_sentence(self.target, "what was written cannot be read")) from error
        if not (complete and same and _agree(found, self.spec.grid, plan.passport.placed)):
            raise WriteFailedError(_sentence(self.target, "the file on the disk is not complete"))

    def _drop_stale(self, sidecar: Path | None) -> None:
        """Masks, overviews and metadata that belonged to the file which was replaced would be read with the new one."""
        for suffix in _SIDECARS:
            stale = self.target.with_name(self.target.name + suffix)
            if sidecar is None or stale.name != sidecar.name:
                stale.unlink(missing_ok=True)

    @contextmanager
    def _failures(self, complaints: Complaints) -> Iterator[None]:
        """One sentence for whatever GDAL raises, or only says."""
        try:
            yield
        except FAILURES as error:
            raise WriteFailedError(_sentence(self.target, reason_of(error, complaints))) from error
        if complaints.errors:
            raise WriteFailedError(_sentence(self.target, complaints.last))


def _opaque(dtype: np.dtype[Any]) -> int:
    """What an alpha band of a dtype holds where nothing shines through."""
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 255


def _opacity_in(dtype: np.dtype[Any], alpha: NDArray[Any], before: np.dtype[Any]) -> NDArray[Any]:
    """Opacities (none is 0) of one dtype in another: the same share of what is opaque there, and not 0 either."""
    if dtype == before:
        return alpha
    share = np.clip(alpha / _opaque(before), 0.0, 1.0)
    return Coding(dtype).store(np.maximum(share * _opaque(dtype), 1.0))


def _repeated(dataset: DatasetReader, index: int, box: Box, factor: Factor) -> NDArray[Any]:
    """A box of the fine image, cut out of a band of the coarse one with each voxel repeated."""
    coarse = Box(
        tuple(a // f for a, f in zip(box.start, factor, strict=True)),
        tuple(-(-b // f) for b, f in zip(box.stop, factor, strict=True)),
    )
    values = dataset.read(index, window=_window(coarse)).repeat(factor[0], axis=0).repeat(factor[1], axis=1)
    return np.asarray(values[box.relative_to(coarse.scaled(factor).start).slices])


def _window(box: Box) -> Window:
    return Window(box.start[1], box.start[0], box.shape[1], box.shape[0])


def _agree(found: Grid, wanted: Grid, placed: bool) -> bool:
    """Whether a grid that was read back is the one that was meant, to 1e-9 of its coordinates."""
    if found.shape != wanted.shape or (found.crs is None) != (wanted.crs is None):
        return False
    if not placed:
        return True
    return bool(np.abs(found.corners - wanted.corners).max() <= 1e-9 * np.abs(wanted.corners).max())


def _is_full(target: Path) -> bool:
    """Whether no more than a rest of space is left for the target."""
    with suppress(OSError):
        return shutil.disk_usage(target.parent).free < _REST
    return False


def _sentence(target: Path, reason: str) -> str:
    if _is_full(target):
        return f"The disk is full: {target} was not written, and nothing was changed."
    return f"{target} could not be written: {reason}."
