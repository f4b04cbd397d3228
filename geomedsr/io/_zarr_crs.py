"""Coordinate reference systems as zarr's conventions tell them, by GDAL's own knowledge."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from geomedsr.io._crs import crs_of

if TYPE_CHECKING:
    from rasterio.crs import CRS

__all__ = ["authority_code", "crs_units", "full_wkt", "grid_mapping_name", "is_same_crs"]

_UNITS = {"metre": "m", "meter": "m", "degree": "degree"}
_MAPPINGS = {
    "aea": "albers_conical_equal_area",
    "laea": "lambert_azimuthal_equal_area",
    "lcc": "lambert_conformal_conic",
    "merc": "mercator",
    "sinu": "sinusoidal",
    "stere": "polar_stereographic",
    "tmerc": "transverse_mercator",
    "utm": "transverse_mercator",
}
"""What CF calls the projections of PROJ."""


@lru_cache(256)
def full_wkt(text: str) -> str | None:
    """The whole text of a CRS that is told as WKT, as PROJJSON or by an authority's code; None where it is none."""
    from rasterio.errors import CRSError

    crs = _crs(text)
    if crs is None:
        return None
    try:
        return str(crs.to_wkt(version="WKT2_2019"))
    except CRSError:
        return str(crs.to_wkt())


def crs_units(text: str) -> str:
    """The units of a CRS's axes ("m", "degree"), or "" where they are unknown."""
    from rasterio.errors import CRSError

    crs = _crs(text)
    try:
        name = "" if crs is None else str(crs.units_factor[0])
    except CRSError:
        return ""
    return _UNITS.get(name, name)


def authority_code(text: str) -> str | None:
    """The code of a CRS, such as EPSG:32633, or None where it has none.

    Example:
        >>> authority_code("EPSG:32633")
        'EPSG:32633'
    """
    crs = _crs(text)
    code = crs.to_authority() if crs is not None else None
    return f"{code[0]}:{code[1]}" if code else None


def grid_mapping_name(text: str) -> str | None:
    """What CF calls the projection of a CRS, or None where CF has no name for it.

    Example:
        >>> grid_mapping_name("EPSG:4326")
        'latitude_longitude'
    """
    crs = _crs(text)
    if crs is None:
        return None
    if crs.is_geographic:
        return "latitude_longitude"
    told = re.search(r"\+proj=(\w+)", crs.to_proj4() or "")
    return _MAPPINGS.get(told[1]) if told else None


def is_same_crs(one: str, other: str) -> bool:
    """Whether two texts tell the same CRS, in whatever form."""
    return one == other or (full_wkt(one) is not None and _crs(one) == _crs(other))


@lru_cache(256)
def _crs(text: str) -> CRS | None:
    from rasterio.errors import CRSError

    try:
        return crs_of(text)
    except CRSError:
        return None
