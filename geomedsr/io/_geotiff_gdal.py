"""GDAL as this package uses it: a small block cache, an allow-list of drivers, and complaints that are heard."""

from __future__ import annotations

import ctypes
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geomedsr.io._admitted import RASTER_DRIVERS
from geomedsr.io._limits import limits

__all__ = ["FAILURES", "Complaints", "driver_of", "gdal", "georeferencing_optional", "open_for_reading", "reason_of"]

FAILURES = (RasterioError, CPLE_BaseError, OSError, ValueError, TypeError, MemoryError)
"""What rasterio raises when GDAL fails; some of GDAL's own errors come through as they are."""

_CACHE_BYTES = 64 * 1024**2
# GDAL's own default is 5 % of the machine, whatever the image: a bounded stream needs a bounded cache.

_SETTINGS: dict[str, Any] = {
    "GDAL_CACHEMAX": _CACHE_BYTES,
    "GDAL_TIFF_INTERNAL_MASK": True,
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "GTIFF_IGNORE_READ_ERRORS": False,
    "GTIFF_POINT_GEO_IGNORE": False,
}
"""What must not depend on the environment: code in files, raw bytes as voxels, damage passed over, half a voxel."""

_OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}


_HARMLESS = ("color channels and ExtraSamples doesn't match SamplesPerPixel",)
"""What GDAL mends by itself, rightly: files of some Sentinel-2 services do not say that bands are no colours."""

_DAMAGE = re.compile("corrupt|premature|extraneous|truncated", re.IGNORECASE)
"""In what a decoder says of voxels that it made up where bytes were missing, a warning in its eyes."""

_CLASS = re.compile(r"^CPLE_\w+( in |:)")
"""What rasterio puts before GDAL's own words."""


@dataclass
class Complaints:
    """What GDAL said in this thread while it was listened to."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        """The last sentence, the gravest kind first; empty when all was well."""
        return next(reversed(self.errors or self.warnings), "")

    @property
    def damage(self) -> str | None:
        """A warning while voxels were read that says that they are not the file's, or None."""
        return next((text.rstrip(".") for text in self.warnings if _DAMAGE.search(text)), None)

    def doubts(self, path: Path) -> tuple[str, ...]:
        """The warnings that say something of a file, once each, as sentences."""
        said = (text.removeprefix(f"{path.name}: ").rstrip(".") for text in self.warnings)
        heard = dict.fromkeys(text for text in said if not any(known in text for known in _HARMLESS))
        return tuple(f"GDAL warns of {path.name}: {text}." for text in heard)


class _Ear(logging.Handler):
    """Hands what rasterio logs to whoever listens in the same thread.

    GDAL reports a failed write or a lost tag by a log line alone. Being a handler, it also keeps such lines off
    stderr where a program has configured no logging.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.local = threading.local()

    @property
    def listeners(self) -> list[Complaints]:
        found: list[Complaints] = getattr(self.local, "listeners", [])
        return found

    def emit(self, record: logging.LogRecord) -> None:
        for listener in self.listeners:
            kind = listener.errors if record.levelno >= logging.ERROR else listener.warnings
            kind.append(_CLASS.sub("", record.getMessage()))

    @contextmanager
    def listening(self) -> Iterator[Complaints]:
        listeners: list[Complaints] = self.local.__dict__.setdefault("listeners", [])
        complaints = Complaints()
        listeners.append(complaints)
        try:
            yield complaints
        finally:
            listeners.remove(complaints)


def reason_of(error: BaseException, complaints: Complaints) -> str:
    """Why GDAL failed, without a full stop: what it said, or the first of the errors that rasterio hides behind."""
    if "previous exception" not in str(error):
        return (complaints.last or str(error)).rstrip(".")
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")


_EAR = _Ear()
logging.getLogger("rasterio").addHandler(_EAR)


def _hear_what_is_no_text() -> None:
    """Hears of messages with bytes of a file that are no text: rasterio cannot log them, and Python would print why."""
    unraisable_before, uncaught_before = sys.unraisablehook, sys.excepthook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, UnicodeDecodeError) or "rasterio" not in str(found.object):
            unraisable_before(found)
            return
        for listener in _EAR.listeners:
            listener.warnings.append("it names something that is no text")

    def uncaught(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        # Compiled code prints an error once by itself before it hands it to the other hook.
        if not (kind is UnicodeDecodeError and trace is None and _EAR.listeners):
            uncaught_before(kind, value, trace)

    sys.unraisablehook, sys.excepthook = unraisable, uncaught


_hear_what_is_no_text()


def _hush_libtiff() -> None:
    """Takes from libtiff its own error handler, which prints on stderr what GDAL reports as well."""
    with suppress(OSError):
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
        for library in mapped:
            if "libtiff" in library or "libgdal" in library:
                loaded = ctypes.CDLL(library)
                for name in ("TIFFSetErrorHandler", "gdal_TIFFSetErrorHandler"):
                    if hasattr(loaded, name):
                        getattr(loaded, name)(None)


_hush_libtiff()


@contextmanager
def gdal() -> Iterator[Complaints]:
    """GDAL in the calling thread with a bounded block cache; gives what it complains about.

    It asks no server unless `limits` let it.
    """
    options = _SETTINGS if limits().remote else {**_SETTINGS, **_OFFLINE}
    with rasterio.Env(**options), _EAR.listening() as complaints:
        yield complaints


@contextmanager
def georeferencing_optional() -> Iterator[list[warnings.WarningMessage]]:
    """Keeps rasterio from warning that a raster has no place in the world, and tells whether it would have."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotGeoreferencedWarning)
        yield caught


def driver_of(path: Path) -> str:
    """The one GDAL driver that may open a path; a file of another kind under that name is refused by it."""
    return RASTER_DRIVERS[path.suffix.lower()]


def open_for_reading(path: Path) -> tuple[Any, bool]:
    """The open dataset, and whether it has a place in the world (a transform, control points or RPCs)."""
    with georeferencing_optional() as caught:
        dataset = rasterio.open(path.resolve(), driver=driver_of(path))
    placed = not any(issubclass(warning.category, NotGeoreferencedWarning) for warning in caught)
    return dataset, placed
