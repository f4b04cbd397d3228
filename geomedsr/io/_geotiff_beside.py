"""The files that GDAL reads along with a raster because of their names: held to what the raster itself is held to.

A mask or an overview of that name may be in any format, so it could show what lies elsewhere on the machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from geomedsr.errors import InputError
from geomedsr.io._limits import limits

__all__ = ["check_beside", "parsed_xml"]

_IMAGES = (".msk", ".ovr", ".msk.ovr", ".ovr.msk")
_WORDS = ".aux.xml"
_OF_STEM = (".aux", ".tfw", ".tifw", ".tiffw", ".j2w", ".jp2w", ".wld", ".tab", ".xml", ".IMD", ".RPB", "_RPC.TXT")
_LISTED = 1000
"""So many names of a folder does GDAL look at."""
_LEADING = "OVERVIEW_FILE"
"""The key by which a companion names yet another file."""


def check_beside(path: Path, check_image: Callable[[Path], object]) -> None:
    """Refuses companions of a raster that are no plain files of their kind in its own folder.

    `check_image` is what is asked of a TIFF.

    Raises:
        InputError: with the companion's name.
    """
    _check_kinds(path)
    for suffix in (*_IMAGES, _WORDS):
        beside = path.with_name(path.name + suffix)
        if not beside.is_file():
            continue  # GDAL opens nothing else
        if not limits().outside and not beside.resolve().is_relative_to(path.resolve().parent):
            raise InputError(f"{beside} is a link out of the folder of {path.name}; remove it, or copy the file.")
        if suffix == _WORDS:
            _check_words(beside)
        else:
            check_image(beside)


def _check_kinds(path: Path) -> None:
    """Refuses pipes and devices that GDAL might take for companions, and wait for."""
    for beside in _beside(path):
        with suppress(OSError):  # there is none, or it is a link that leads nowhere
            kind = beside.stat().st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise InputError(f"{beside} would be read along with {path.name}, and is not a file; remove it.")


def _beside(path: Path) -> list[Path]:
    """What GDAL may take for companions: in a small folder whatever begins alike, in others by known names alone."""
    known = [*(path.name + end for end in (*_IMAGES, _WORDS)), *(path.stem + end for end in _OF_STEM)]
    with os.scandir(path.parent) as entries:
        found = [entry.name for entry in islice(entries, _LISTED) if entry.name.startswith(path.stem)]
    return [path.with_name(name) for name in {*known, *found} - {path.name}]


def _check_words(path: Path) -> None:
    """Refuses a companion that leads elsewhere."""
    for element in parsed_xml(path).iter():
        if _LEADING in element.attrib.values() and not limits().outside:
            raise InputError(f"{path} names yet another file, '{(element.text or '').strip():.80}'; remove it.")


def parsed_xml(path: Path, *, plain: bool = False) -> ElementTree.Element:
    """The XML in a file; `plain` has elements and text alone, which GDAL reads as everybody else does.

    Raises:
        InputError: it is none, too long, has a document type, or is not plain.
    """
    limit = limits().text
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    strange = [mark for mark in (b"<!", b"&#", b"<?") if mark in data[1:]] if plain else []
    # A document type could define entities that another parser expands differently; GDAL writes none.
    if not data or len(data) > limit or b"\0" in data or b"<!DOCTYPE" in data.upper() or strange:
        raise InputError(f"{path} is not XML as GDAL writes it (plain elements, at most {limit >> 20} MiB).")
    try:
        return ElementTree.fromstring(data.decode("utf-8-sig"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is broken XML ({error}).") from error
