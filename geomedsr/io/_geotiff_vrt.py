"""Which virtual rasters may be opened: those that name plain raster files in their own folder, and do nothing else.

A VRT can name any file or address, read raw bytes as voxels, and ask for other drivers. Since it may come from
anywhere, it is read here first, against a list of what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from geomedsr.errors import InputError
from geomedsr.io._admitted import RASTER_DRIVERS, VIRTUAL, VRT_ATTRIBUTES, VRT_ELEMENTS
from geomedsr.io._geotiff_beside import parsed_xml
from geomedsr.io._limits import limits

__all__ = ["sources_of"]

_PLAIN = tuple(suffix for suffix in RASTER_DRIVERS if suffix != VIRTUAL)
_REMOTE = ("/vsicurl/http://", "/vsicurl/https://", "/vsis3/", "/vsigs/", "/vsiaz/")


def sources_of(path: Path) -> list[Path]:
    """The raster files that a VRT reads, each checked to be a plain one in the VRT's own folder tree.

    Those at URLs are not among them; they are let through where `limits` say so, and read by GDAL as they come.

    Raises:
        InputError: it is no VRT, does more than name such files, or names one that is missing or elsewhere.
    """
    root = _parsed(path)
    elements = _elements(path, root)
    limits().check_channels(path, sum(element.tag == "VRTRasterBand" for element in elements))
    named = [element for element in elements if element.tag == "SourceFilename"]
    if not named:
        raise InputError(f"{path} names no raster file; a virtual raster without sources holds no voxels.")
    local = [element for element in named if not _is_remote(path, element.text or "")]
    return list(dict.fromkeys(_source(path.resolve(), element) for element in local))


def _parsed(path: Path) -> ElementTree.Element:
    try:
        root = parsed_xml(path, plain=True)
    except InputError as error:
        raise InputError(f"{path} is not a virtual raster that is read here: {error}") from error
    # GDAL reads names in any case.
    kind = next((value for name, value in root.attrib.items() if name.lower() == "subclass"), root.tag)
    if kind != "VRTDataset":
        raise InputError(f"{path} is a virtual raster of the kind {kind}; only plain mosaics and stacks are read.")
    return root


def _elements(path: Path, root: ElementTree.Element) -> list[ElementTree.Element]:
    """All elements below the root that matter; metadata is text and is not looked into."""
    waiting, seen = list(root), []
    strange = next(iter(set(root.attrib) - VRT_ATTRIBUTES), None)
    while waiting:
        element = waiting.pop()
        strange = strange or next(iter(set(element.attrib) - VRT_ATTRIBUTES), None)
        if element.tag not in VRT_ELEMENTS or _is_special(element) or strange:
            what = f"an attribute {strange}" if strange else f"<{element.tag}>"
            raise InputError(
                f"{path} asks for {what} ({element.attrib.get('subClass', 'not a plain source')}), which is "
                f"not read from a virtual raster; make it a GeoTIFF with gdal_translate first."
            )
        seen.append(element)
        if element.tag != "Metadata":
            waiting.extend(element)
    return seen


def _is_special(element: ElementTree.Element) -> bool:
    return any(name.lower() == "subclass" and value != "VRTSourcedRasterBand" for name, value in element.attrib.items())


def _is_remote(path: Path, name: str) -> bool:
    """Whether a source is at a URL, and may be.

    Raises:
        InputError: it is, and may not.
    """
    if not name.startswith("/vsi") and "://" not in name:
        return False
    if name.startswith(_REMOTE) and name.lower().endswith(_PLAIN) and limits().remote:
        return True
    how = "pass --allow-remote to read it" if name.startswith(_REMOTE) else "name a raster file instead"
    raise InputError(f"{path} names the source '{name}', which is not a file on this machine; {how}.")


def _source(path: Path, element: ElementTree.Element) -> Path:
    name = element.text or ""
    relative = element.attrib.get("relativeToVRT", "0")
    if not set(element.attrib) <= {"relativeToVRT", "shared"} or relative not in ("0", "1") or len(element):
        raise InputError(f"{path} names the source '{name}' in a form that is not read.")
    source = path.parent / name if relative == "1" else Path(name)
    if not source.is_absolute() or not source.is_file():
        raise InputError(f"{path} names the source '{name}', which is not a file on this machine.")
    source = source.resolve()
    if not source.is_relative_to(path.parent) and not limits().outside:
        raise InputError(
            f"{path} names the source '{name}', which lies outside its own folder {path.parent}; where that is meant, "
            "pass --allow-vrt-paths."
        )
    if source.suffix.lower() not in _PLAIN:
        raise InputError(f"{path} names the source '{name}'; only {', '.join(_PLAIN)} are read through it.")
    return source
