"""An output at a URL, where nothing can be renamed: it grows where it will stay, and has its mark at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from geomedsr.errors import OutputError, WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io._zarr_place import Place

__all__ = ["RemoteZarrSink"]


class RemoteZarrSink:
    """A new store at a URL, written in boxes where it will stay; without its mark it is not complete, and not read.

    Raises:
        OutputError: something is there already; at a URL, nothing is ever replaced.
    """

    def __init__(self, path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
        self._place, self._written, self._is_ours = Place(path), 0, False
        if self._place.exists():
            raise OutputError(f"{self._place} exists already; remove it first, or choose another output.")
        self._is_ours = True
        try:
            self._output = ZarrOutput.create(path, spec, options)
        except BaseException:
            self.abort()
            raise

    @property
    def spec(self) -> ImageSpec:
        """What is written; its chunks are the objects of the store."""
        return self._output.spec

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the physical voxels of a box.

        Raises:
            GridError: the box is not inside.
            WriteFailedError: the store refused.
        """
        self._output.write(box, voxels)
        self._written += box.size

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The store is marked complete, and seen by `verify`; where that raises, it is removed.

        Raises:
            WriteFailedError: voxels are missing, or the store refused.
        """
        if self._written != (expected := math.prod(self.spec.grid.shape)):
            raise WriteFailedError(f"{self._place} was given {self._written} of its {expected} voxels.")
        self._output.finish()
        if verify is not None:
            verify(self._place.path)
        self._is_ours = False

    def abort(self) -> None:
        """Nothing stays that was not complete."""
        if self._is_ours:
            self._is_ours = False
            self._place.remove_all()
