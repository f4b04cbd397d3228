"""How an image is written as a GeoTIFF: its bands, how each stores its values, and how invalid voxels are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from geomedsr.errors import OutputError
from geomedsr.grid import Factor, Grid
from geomedsr.image import ImageSpec
from geomedsr.io._admitted import NUMBERS
from geomedsr.io._coding import PLAIN, Coding, fitting_nodata, holds, scaling_of, spare_nodata
from geomedsr.io._crs import crs_of
from geomedsr.io._geotiff_gdal import FAILURES, open_for_reading
from geomedsr.io._geotiff_passport import Band, Passport
from geomedsr.io._geotiff_stamp import stored_crs

__all__ = ["Plan", "planned"]

_LONGEST = 2**31 - 1
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Plan:
    """What will be written: the bands in their order, how each is coded, and how invalid voxels are told."""

    passport: Passport
    grid: Grid
    dtype: np.dtype[Any]
    factor: Factor
    codings: tuple[Coding, ...]
    mask: str

    @property
    def alpha_at(self) -> int:
        """Where among the bands the alpha band goes: where it was, or last."""
        assert self.passport.alpha is not None
        return min(self.passport.alpha.index - 1, len(self.codings))

    @property
    def bands(self) -> tuple[Band, ...]:
        """All bands of the file, the alpha band included."""
        bands = list(self.passport.bands)
        if self.passport.alpha is not None:
            bands.insert(self.alpha_at, self.passport.alpha)
        return tuple(bands)

    @property
    def count(self) -> int:
        return len(self.bands)

    def applied_to(self, spec: ImageSpec) -> ImageSpec:
        """What will be read back of a spec."""
        bands = tuple(replace(band, index=index) for index, band in enumerate(self.bands, 1))
        bands = tuple(band for band in bands if self.passport.alpha is None or band.index != self.alpha_at + 1)
        return replace(
            spec,
            channels=replace(self.passport, bands=bands).names,
            grid=self.grid,
            dtype=self.dtype,
            nodata=self.codings[0].nodata,
            scaling=scaling_of(coding.scaling for coding in self.codings),
        )

    @property
    def colormap(self) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
        """The palette, where the storage type can have one."""
        indexed = self.passport.bands[0].colour == "palette" and self.dtype.name in ("uint8", "uint16")
        return self.passport.colormap if indexed else ()

    @property
    def nodatas(self) -> tuple[float | None, ...]:
        """The nodata of each band of the file."""
        values: list[float | None] = [coding.nodata for coding in self.codings]
        if self.passport.alpha is not None:
            values.insert(self.alpha_at, values[0])
        return tuple(values)

    @property
    def shares_nodata(self) -> bool:
        """Whether all bands have one nodata, which is all that a TIFF can say itself."""
        return len({str(value) for value in self.nodatas}) == 1

    def opened_alpha(self) -> DatasetReader | None:
        """The coarse image, if its alpha band is still there to be repeated; else None, and alpha is on or off."""
        if self.passport.alpha is None or not self.passport.path.is_file() or not all(self.factor):
            return None
        with suppress(*FAILURES):
            return open_for_reading(self.passport.path)[0]
        return None


def planned(path: Path, spec: ImageSpec) -> Plan:
    """What a spec asks for, whatever format it came from.

    Raises:
        OutputError: a GeoTIFF cannot hold it.
    """
    dtype = spec.dtype.newbyteorder("=")
    if spec.grid.ndim != 2:
        raise OutputError(f"{path.name} would be a GeoTIFF, which has 2 axes; the image has {spec.grid.ndim}.")
    if max(spec.grid.shape) > _LONGEST:
        sides = " x ".join(map(str, spec.grid.shape))
        raise OutputError(f"{path.name} cannot be {sides} voxels: a GeoTIFF has at most {_LONGEST} on an axis.")
    if dtype.name not in NUMBERS:
        raise OutputError(f"{path.name} cannot store {spec.dtype}; choose one of {', '.join(NUMBERS)}.")
    passport = _passport(spec).with_provenance(spec.provenance)
    codings = tuple(_codings(passport, spec, dtype))
    mask = _mask(passport, codings)
    bands = tuple(replace(band, scaling=new.scaling) for band, new in zip(passport.bands, codings, strict=True))
    grid = spec.grid if spec.grid.crs is None else replace(spec.grid, crs=_crs(path, spec.grid.crs))
    return Plan(replace(passport, bands=bands), grid, dtype, _factor(grid, passport), codings, mask)


def _passport(spec: ImageSpec) -> Passport:
    """What the input said of the spec's channels; a new passport where it came from another format."""
    remembered, chosen = spec.extra.get("geotiff"), spec.extra.get("channels")
    if isinstance(remembered, Passport):
        passport = remembered.with_bands(chosen) if isinstance(chosen, tuple) else remembered
        if len(passport.bands) == len(spec.channels):
            return passport
    return _foreign(spec)


def _crs(path: Path, text: str) -> str:
    """A CRS as it will be read back: in full, though an authority's code may have been given."""
    try:
        stored = stored_crs(text)
    except FAILURES as error:
        raise OutputError(f"{path.name} cannot say where it is: '{text:.80}' is no CRS known here.") from error
    if stored is None:
        raise OutputError(f"{path.name} cannot say where it is: a GeoTIFF has no place for the CRS '{text:.80}'.")
    before, after = crs_of(text), CRS.from_wkt(stored)
    if before.to_authority() and after != before:
        code = ":".join(before.to_authority())
        raise OutputError(f"{path.name} cannot say where it is: a GeoTIFF would turn {code} into another CRS.")
    return stored


def _foreign(spec: ImageSpec) -> Passport:
    """The passport of an image of another format: what its spec says, and no more."""
    names = [channel.lower() for channel in spec.channels]
    colours = [name if name in _COLOURS and names[:3] == [*_COLOURS] else "undefined" for name in names]
    nodata = math.nan if spec.nodata is None and spec.dtype.kind == "f" else spec.nodata
    bands = tuple(
        Band(i + 1, name, nodata, colour=colour)
        for i, (name, colour) in enumerate(zip(spec.channels, colours, strict=True))
    )
    placed = spec.grid.affine != Grid.plain(spec.grid.shape).affine
    return Passport(Path(), spec.grid, spec.dtype.newbyteorder("="), bands, nodata, placed)


def _codings(passport: Passport, spec: ImageSpec, dtype: np.dtype[Any]) -> Iterator[Coding]:
    """How each band is stored: its own nodata unless the spec has another, and the spec's scaling.

    An image that becomes one of real numbers holds the physical ones, and its nodata is no scaled number any more.
    """
    becomes_real = dtype.kind == "f" and (passport.is_foreign or passport.dtype.kind != "f")
    keeps_nodata = passport.is_foreign or _same(spec.nodata, passport.nodata)
    scalings = spec.scaling or (PLAIN,) * len(spec.channels)
    for band, scaling in zip(passport.bands, scalings, strict=True):
        nodata = band.nodata if keeps_nodata else spec.nodata
        if becomes_real and spec.scaling:
            yield Coding(dtype, math.nan)
            continue
        fitting = fitting_nodata(nodata, dtype)
        if fitting is None and len(passport.bands) > 1 and _needs_nodata(passport, band, spec, dtype):
            fitting = spare_nodata(dtype)
        yield Coding(dtype, fitting, scaling)


def _needs_nodata(passport: Passport, band: Band, spec: ImageSpec, dtype: np.dtype[Any]) -> bool:
    """Whether a band of several needs a nodata of its own: a mask that it needs would hide the others as well."""
    if passport.mask != "none" or dtype.kind not in "iu":
        return False
    return spec.has_holes if passport.is_foreign else _has_holes(passport, band)


def _has_holes(passport: Passport, band: Band) -> bool:
    """Whether voxels of a band that was read may be invalid by what they hold."""
    return passport.dtype.kind == "f" or (band.nodata is not None and holds(passport.dtype, band.nodata))


def _mask(passport: Passport, codings: tuple[Coding, ...]) -> str:
    """How invalid voxels are told apart; a mask is added where they may arise and no stored value can say so."""
    if passport.mask == "alpha":
        return "alpha"
    needed = any(
        coding.dtype.kind != "f" and coding.nodata is None and (passport.is_foreign or _has_holes(passport, band))
        for coding, band in zip(codings, passport.bands, strict=True)
    )
    return "mask" if needed or passport.mask != "none" else "none"


def _factor(grid: Grid, passport: Passport) -> Factor:
    """How much finer the output is; zeros where it is only a part of what was read, which needs no points moved."""
    whole = all(n % c == 0 for n, c in zip(grid.shape, passport.grid.shape, strict=True))
    if not whole and (passport.gcps or passport.rpcs):
        raise OutputError(
            f"{grid.shape} is no whole multiple of {passport.grid.shape}: control points and RPCs cannot follow."
        )
    return grid.ratio_to(passport.grid) if whole else (0, 0)


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
