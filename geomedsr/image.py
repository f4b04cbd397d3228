"""An image: what it is (`ImageSpec`), where its voxels come from (`Source`) and where they go (`Sink`).

Voxels are float32 in physical units (slope, intercept, scale and offset applied), shaped (C, *S), NaN where invalid.
A sink alone rounds, saturates and gives back dtype, scaling and nodata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GridError
from geomedsr.grid import Box, Factor, Grid, Shape

__all__ = ["Format", "Image", "ImageSpec", "Scaling", "Sink", "Source", "StoredSink", "StoredSource", "Voxels"]

Voxels = NDArray[np.float32]
"""(C, *S) float32 in physical units, NaN where invalid."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Physical numbers out of stored ones: physical = stored * slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class ImageSpec:
    """Everything of an image but its voxels.

    `dtype` is the storage type, `nodata` the stored value that means "invalid" (None: there is none), `chunks` the
    storage blocks on the spatial axes (None: no blocks), `extra` what each format wants back, keyed by format and
    opaque to everybody else. A format finds how much finer an output is by comparing `grid` with the grid that it
    remembered in its own `extra` when it read the image. `scaling` says of each channel how its stored values become
    physical ones (empty: they are); every format honours it, or stores physical values in a real dtype. `has_holes`
    says that voxels may be invalid (NaN), be it by a nodata, a mask, an alpha band, or because they are real numbers.
    `provenance` is the JSON text that says how the image was made, which every format writes and reads.
    """

    grid: Grid
    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: float | None = None
    chunks: Shape | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    scaling: tuple[Scaling, ...] = ()
    has_holes: bool = False
    provenance: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return (len(self.channels), *self.grid.shape)

    @property
    def nbytes(self) -> int:
        """The uncompressed size in storage, in bytes."""
        return int(np.prod(self.shape, dtype=np.float64)) * self.dtype.itemsize

    def upscaled(self, factor: Factor) -> ImageSpec:
        """The spec of the same image, `factor` times finer. Chunks keep their size."""
        return replace(self, grid=self.grid.upscaled(factor))

    def with_channels(self, index: tuple[int, ...]) -> ImageSpec:
        """The spec of some channels; `extra["channels"]` tells a format which of the file's channels they are."""
        before = self.extra.get("channels", tuple(range(len(self.channels))))
        assert isinstance(before, tuple)
        chosen = tuple(before[i] for i in index)
        return replace(
            self,
            channels=tuple(self.channels[i] for i in index),
            extra={**self.extra, "channels": chosen},
            scaling=tuple(self.scaling[i] for i in index) if self.scaling else (),
        )


@runtime_checkable
class Source(Protocol):
    """An image that is read in boxes. Picklable; opens its handle on first read."""

    @property
    def spec(self) -> ImageSpec:
        """Everything but the voxels."""
        ...

    def read(self, box: Box) -> Voxels:
        """The voxels of a box inside the image.

        Shape: (C, *box.shape)
        """
        ...

    def close(self) -> None:
        """Lets go of handles and scratch files; reading again opens them again."""
        ...


@runtime_checkable
class Sink(Protocol):
    """An image that is written in boxes, each voxel once, in any order."""

    @property
    def spec(self) -> ImageSpec:
        """What is written; its `chunks` are the blocks that boxes should align to."""
        ...

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box: (C, *box.shape). The array may be another tile's once this returns."""
        ...

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The file appears, complete; `verify` is shown it first, and where it raises, nothing appears."""
        ...

    def abort(self) -> None:
        """Nothing appears; what was there before stays. May be called at any time, also twice."""
        ...


@runtime_checkable
class StoredSink(Sink, Protocol):
    """A sink that also takes numbers in its own dtype, where these are the physical ones and none is invalid."""

    def store(self, box: Box, stored: NDArray[Any]) -> None:
        """Takes the numbers of a box as they are stored: (C, *box.shape)."""
        ...


@runtime_checkable
class StoredSource(Source, Protocol):
    """A source that also gives numbers in its own dtype, where these are the physical ones and none is invalid."""

    def load(self, box: Box) -> NDArray[Any]:
        """The numbers of a box as they are stored: (C, *box.shape). May be a view, which is not written to."""
        ...


class Format(Protocol):
    """What a module in `geomedsr/io/` offers."""

    SUFFIXES: tuple[str, ...]

    def members(self, path: Path) -> Iterator[Path]:
        """The images in a file: one, or many in an archive."""
        ...

    def open_source(self, path: Path) -> Source:
        """The image for reading."""
        ...

    def target_spec(self, path: Path, spec: ImageSpec) -> ImageSpec:
        """What will be read back from a file that is written from `spec`: all of it that the format can hold."""
        ...

    def check_options(self, path: Path, spec: ImageSpec, options: Mapping[str, str]) -> None:
        """Refuses what `create_sink` would of its options, without touching the disk."""
        ...

    def create_sink(self, path: Path, spec: ImageSpec, options: Mapping[str, str] | None = None) -> Sink:
        """The image for writing; `options` are the format's own creation options."""
        ...


@dataclass
class Image:
    """An image in memory, itself a Source and a Sink.

    Shape: `voxels` is `spec.shape`, float32.
    """

    spec: ImageSpec
    voxels: Voxels

    def __post_init__(self) -> None:
        if self.voxels.shape != self.spec.shape:
            raise GridError(f"The voxels have the shape {self.voxels.shape}, the spec {self.spec.shape}.")

    @classmethod
    def empty(cls, spec: ImageSpec) -> Image:
        """An image that is invalid everywhere, to be written."""
        return cls(spec, np.full(spec.shape, np.nan, dtype=np.float32))

    @classmethod
    def of(cls, voxels: NDArray[Any], grid: Grid | None = None) -> Image:
        """An image of an array (C, *S), float32, on a plain grid unless told otherwise."""
        array = np.asarray(voxels, dtype=np.float32)
        grid = grid or Grid.plain(array.shape[1:])
        channels = tuple(f"channel {i + 1}" for i in range(array.shape[0]))
        return cls(ImageSpec(grid, channels, np.dtype(np.float32)), array)

    def read(self, box: Box) -> Voxels:
        """The voxels of a box."""
        box.check_inside(self.spec.grid.shape)
        return self.voxels[(slice(None), *box.slices)].copy()

    def close(self) -> None:
        """Nothing to let go of."""

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box."""
        box.check_inside(self.spec.grid.shape)
        self.voxels[(slice(None), *box.slices)] = voxels

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """Nothing to do: the voxels are here, and there is no file to verify."""

    def abort(self) -> None:
        """Nothing to undo."""
