"""Which virtual rasters may be opened: those that name plain raster files in their own folder, and do nothing else.

A VRT can name any file or address, read raw bytes as voxels, and ask for other drivers. Since it may come from
anywhere, it is read here first, against a list of what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from geomedsr.errors import InputError
from geomedsr.io._admitted import RASTER_DRIVERS, VIRTUAL, VRT_ELEMENTS

__all__ = ["sources_of"]

_LARGEST = 32 * 1024**2
_PLAIN = tuple(suffix for suffix in RASTER_DRIVERS if suffix != VIRTUAL)


def sources_of(path: Path) -> list[Path]:
    """The raster files that a VRT reads, each checked to be a plain one in the VRT's own folder tree.

    Raises:
        InputError: it is no VRT, does more than name such files, or names one that is missing or elsewhere.
    """
    root = _parsed(path)
    named = [element for element in _elements(path, root) if element.tag == "SourceFilename"]
    found = [_source(path.resolve(), element) for element in named]
    if not found:
        raise InputError(f"{path} names no raster file; a virtual raster without sources holds no voxels.")
    return list(dict.fromkeys(found))


def _parsed(path: Path) -> ElementTree.Element:
    text = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    # A document type could define entities that another parser expands differently; GDAL writes none.
    if not text or b"\0" in text or b"<!DOCTYPE" in text.upper():
        raise InputError(f"{path} is not a virtual raster as GDAL writes it (plain XML, at most 32 MiB).")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not a virtual raster: its XML is broken ({error}).") from error
    # GDAL reads names in any case.
    kind = next((value for name, value in root.attrib.items() if name.lower() == "subclass"), root.tag)
    if kind != "VRTDataset":
        raise InputError(f"{path} is a virtual raster of the kind {kind}; only plain mosaics and stacks are read.")
    return root


def _elements(path: Path, root: ElementTree.Element) -> list[ElementTree.Element]:
    """All elements below the root that matter; metadata is text and is not looked into."""
    waiting, seen = list(root), []
    while waiting:
        element = waiting.pop()
        if element.tag not in VRT_ELEMENTS or _is_special(element):
            raise InputError(
                f"{path} asks for <{element.tag}> ({element.attrib.get('subClass', 'not a plain source')}), which is "
                f"not read from a virtual raster; make it a GeoTIFF with gdal_translate first."
            )
        seen.append(element)
        if element.tag != "Metadata":
            waiting.extend(element)
    return seen


def _is_special(element: ElementTree.Element) -> bool:
    return any(name.lower() == "subclass" and value != "VRTSourcedRasterBand" for name, value in element.attrib.items())


def _source(path: Path, element: ElementTree.Element) -> Path:
    name = element.text or ""
    relative = element.attrib.get("relativeToVRT", "0")
    if not set(element.attrib) <= {"relativeToVRT", "shared"} or relative not in ("0", "1") or len(element):
        raise InputError(f"{path} names the source '{name}' in a form that is not read.")
    source = path.parent / name if relative == "1" else Path(name)
    if not source.is_absolute() or name.startswith("/vsi") or not source.is_file():
        raise InputError(f"{path} names the source '{name}', which is not a file on this machine.")
    source = source.resolve()
    if not source.is_relative_to(path.parent):
        raise InputError(f"{path} names the source '{name}', which lies outside its own folder {path.parent}.")
    if source.suffix.lower() not in _PLAIN:
        raise InputError(f"{path} names the source '{name}'; only {', '.join(_PLAIN)} are read through it.")
    return source
