"""Nodata as a TIFF tells it, which is text: what is no number is taken for 0 by GDAL."""

from __future__ import annotations

import re
from dataclasses import replace

from geomedsr.io._coding import holds
from geomedsr.io._geotiff_directory import Directory
from geomedsr.io._geotiff_passport import Passport

__all__ = ["without_false_nodata"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity|1\.#(qnan|ind|inf)\d*)", re.IGNORECASE)


def without_false_nodata(passport: Passport, directory: Directory | None) -> tuple[Passport, str | None]:
    """The passport without a nodata that GDAL made of a text which is no number, and what to say of the text.

    A number that the storage type cannot hold stands for no voxel; it is told, too.
    """
    text, name = directory.nodata if directory else None, passport.path.name
    if text is None:
        return passport, None
    if not _NUMBER.fullmatch(text):
        bands = tuple(replace(band, nodata=None if band.nodata == 0 else band.nodata) for band in passport.bands)
        told = f"{name} has the nodata '{text:.40}', which is no number: no voxel is taken as invalid for it."
        return replace(passport, bands=bands, nodata=bands[0].nodata), told
    if "#" not in text and not holds(passport.dtype, float(text)):
        return (
            passport,
            f"{name} has the nodata {text:.40}, which {passport.dtype} cannot hold: no voxel is invalid by it.",
        )
    return passport, None
