"""A coordinate reference system out of a text that a file gives: GDAL would take it for a file or a URL, too."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # GDAL is loaded for those alone who have a CRS, and need not be there for others
    from rasterio.crs import CRS

__all__ = ["crs_of"]

_FORMS = re.compile(
    r"""
    \s* [A-Z][A-Z0-9_]* \s* [\[(]                         # WKT
    | \s* \{                                              # PROJJSON
    | \+ [a-z]                                            # PROJ
    | [A-Za-z][\w-]* : [\w.+-]+ $                         # an authority's code
    | urn:(x-)?ogc:def:[\w-]+:[\w.:,-]+ $
    | https?://(www\.)?opengis\.net/def/crs/[\w./]+ $     # a name, which nobody fetches
    | (WGS84|WGS72|NAD27|NAD83|CRS84|CRS27|CRS83) $
    """,
    re.VERBOSE,
)


def crs_of(text: str) -> CRS:
    """The CRS that a text tells by itself: as WKT, PROJJSON, a PROJ string or an authority's code.

    Raises:
        CRSError: it is none, or it leads elsewhere.

    Example:
        >>> crs_of("EPSG:32633").to_epsg()
        32633
        >>> crs_of("http://example.org/crs.wkt")
        Traceback (most recent call last):
        rasterio.errors.CRSError: 'http://example.org/crs.wkt' is not followed
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if not _FORMS.match(text):
        raise CRSError(f"'{text:.80}' is not followed")
    try:
        return CRS.from_user_input(json.loads(text) if text.lstrip().startswith("{") else text)
    except ValueError as error:
        raise CRSError(f"'{text:.80}' is no CRS") from error
