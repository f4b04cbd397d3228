"""Writes into a new GeoTIFF what the old one said: names, colours, tags, units, points; and what a TIFF cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import DatasetWriter, MemoryFile

from geomedsr.grid import Factor
from geomedsr.io._crs import crs_of
from geomedsr.io._geotiff_gdal import gdal, georeferencing_optional
from geomedsr.io._geotiff_passport import Band, Passport, Tags, rescaled_gcps, rescaled_rpcs, wkt_of

__all__ = ["beyond_default", "photometric_of", "sidecar_of", "stamp", "stored_crs", "written_crs"]

Colormap = tuple[tuple[int, tuple[int, int, int, int]], ...]


def photometric_of(bands: tuple[Band, ...], colormap: Colormap) -> str:
    """How a TIFF says what its voxels are; GDAL would guess from the number of bands, and often wrongly."""
    if colormap:
        return "PALETTE"
    return "RGB" if [band.colour for band in bands[:3]] == ["red", "green", "blue"] else "MINISBLACK"


def stamp(
    dataset: DatasetWriter, passport: Passport, bands: tuple[Band, ...], colormap: Colormap, factor: Factor
) -> None:
    """Writes all metadata into a dataset that has no voxels yet, so that it lies before them in the file."""
    _stamp_bands(dataset, bands, has_palette=bool(colormap))
    for namespace, items in passport.tags:
        _tag(dataset, 0, namespace, items)
    if colormap:
        dataset.write_colormap(1, dict(colormap))
    if passport.gcps:
        shift = _point_shift() if passport.is_point else 0.0
        crs = written_crs(passport.gcps_crs) if passport.gcps_crs else None
        dataset.gcps = (rescaled_gcps(passport.gcps, factor, shift), crs)
    if passport.rpcs is not None:
        dataset.rpcs = rescaled_rpcs(passport.rpcs, factor)


def sidecar_of(path: Path, nodatas: tuple[float | None, ...], bands: tuple[Band, ...], tags: Tags) -> Path | None:
    """Writes GDAL's companion file with what the file itself cannot say; None where it says all.

    That is nodata, where the bands differ in it, and the namespaces of tags given here (`bands` and `tags`).
    """
    root = ElementTree.Element("PAMDataset")
    _add_tags(root, tags)
    differ = len({str(value) for value in nodatas}) > 1
    for index, (value, band) in enumerate(zip(nodatas, bands, strict=True), 1):
        element = ElementTree.Element("PAMRasterBand", band=str(index))
        if differ and value is not None:
            ElementTree.SubElement(element, "NoDataValue").text = repr(value)
        _add_tags(element, band.tags)
        if len(element):
            root.append(element)
    if not len(root):
        return None
    sidecar = path.with_name(path.name + ".aux.xml")
    ElementTree.ElementTree(root).write(sidecar, encoding="utf-8")
    return sidecar


def beyond_default(tags: Tags) -> Tags:
    """The tags in namespaces of their own, which GDAL leaves out of a COG."""
    return tuple((name, items) for name, items in tags if name and not name.startswith("xml:"))


def _add_tags(element: ElementTree.Element, tags: Tags) -> None:
    for namespace, items in tags:
        domain = ElementTree.SubElement(element, "Metadata", domain=namespace)
        for key, value in items:
            ElementTree.SubElement(domain, "MDI", key=key).text = value


def _stamp_bands(dataset: DatasetWriter, bands: tuple[Band, ...], has_palette: bool) -> None:
    if not has_palette:
        named = [ColorInterp.undefined if b.colour == "palette" else ColorInterp[b.colour] for b in bands]
        # The first band of a TIFF is grey unless it is something else; saying "undefined" would only warn.
        dataset.colorinterp = [ColorInterp.gray if named[0] == ColorInterp.undefined else named[0], *named[1:]]
    dataset.descriptions = tuple(band.description for band in bands)
    dataset.units = tuple(band.unit for band in bands)
    dataset.scales = tuple(band.scaling.slope for band in bands)
    dataset.offsets = tuple(band.scaling.intercept for band in bands)
    for index, band in enumerate(bands, 1):
        for namespace, items in band.tags:
            _tag(dataset, index, namespace, items)


def _tag(dataset: DatasetWriter, index: int, namespace: str, items: tuple[tuple[str, str], ...]) -> None:
    if not namespace.startswith("xml:"):
        dataset.update_tags(index, ns=namespace or None, **dict(items))
        return
    # A namespace of XML holds one document and no keys, but rasterio joins a key and a value with "=": so the
    # document is cut at its own first "=".
    key, separator, value = items[0][1].partition("=")
    if separator:
        dataset.update_tags(index, ns=namespace, **{key: value})


@cache
def written_crs(text: str) -> CRS:
    """A CRS in the form that a GeoTIFF gives back as it was: by its authority's code, in full, or in the older text.

    GDAL writes the parts of some compound CRSs wrongly when they come in full, and forgets their code.
    """
    crs = crs_of(text)
    return next((form for form in _forms(crs) if _passed(form) == crs), crs)


@cache
def stored_crs(text: str) -> str | None:
    """A CRS after a passage through a GeoTIFF, which names some by their code and others by their parts."""
    return wkt_of(_passed(written_crs(text)))


def _forms(crs: CRS) -> Iterator[CRS]:
    if authority := crs.to_authority():
        known = CRS.from_authority(*authority)
        if known == crs:
            yield known
    yield crs
    with suppress(CRSError):
        yield CRS.from_wkt(crs.to_wkt(version="WKT1_GDAL"))


def _passed(crs: CRS) -> CRS | None:
    with gdal(), MemoryFile(ext=".tif") as memory, georeferencing_optional():
        memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", crs=crs).close()
        with memory.open() as dataset:
            found: CRS | None = dataset.crs
            return found


@cache
def _point_shift() -> float:
    """What to add to a control point's row and column so that a file of points reads back as it was given.

    GDAL 3.10 adds half a voxel on writing such a file and half a voxel on reading it; other versions may not.
    """
    point = GroundControlPoint(4.0, 4.0, 0.0, 0.0)
    with MemoryFile(ext=".tif") as memory, georeferencing_optional():
        with memory.open(driver="GTiff", width=8, height=8, count=1, dtype="uint8") as dataset:
            dataset.update_tags(AREA_OR_POINT="Point")
            dataset.gcps = ([point, point, point], CRS.from_epsg(4326))
        with memory.open() as dataset:
            return 4.0 - float(dataset.gcps[0][0].row)
