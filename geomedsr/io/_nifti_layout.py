"""How voxels lie in a NIfTI file, and how they become float32 and stored numbers again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Shape
from geomedsr.image import Voxels

__all__ = ["Buffer", "Layout"]

Buffer = mmap | NDArray[np.uint8]
"""A file's bytes, mapped or in memory."""

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """The stored array: components (of a colour) fastest, then i, j, k, then frames.

    `dtype` has the file's byte order and is that of one component; stored numbers times `slope` plus `inter` are
    physical; the first voxel is at byte `offset`.
    """

    shape: Shape
    frames: int
    components: int
    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all voxels."""
        return self.frame_bytes * self.frames

    @property
    def slab_bytes(self) -> int:
        """The bytes of one index of k in one frame."""
        return self.components * self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame."""
        return self.slab_bytes * self.shape[2]

    @property
    def is_scaled(self) -> bool:
        """Whether stored numbers differ from physical ones."""
        return (self.slope, self.inter) != (1.0, 0.0)

    def stored(self, buffer: Buffer) -> NDArray[Any]:
        """A view of the stored numbers in a file's bytes.

        Shape: (components, i, j, k, frames)
        """
        shape = (self.components, *self.shape, self.frames)
        return np.ndarray(shape, self.dtype, buffer, self.offset, order="F")

    def touched(self, box: Box) -> int:
        """At most how many bytes a box brings into memory: the system maps far more than it is asked for."""
        return box.shape[2] * self.slab_bytes * self.frames

    def decoded(self, stored: NDArray[Any], box: Box) -> Voxels:
        """The physical voxels of a box: (frames * components, *box.shape)."""
        voxels = np.empty((self.frames * self.components, *box.shape), dtype=np.float32)
        for target, source in self._blocks(voxels, stored, box):
            with np.errstate(over="ignore"):
                self._decode(source, target)
        return voxels

    def encode(self, voxels: Voxels, stored: NDArray[Any], box: Box, invalid: float | None) -> None:
        """Puts physical voxels into a box of `stored`: rounded half to even, saturated, never wrapped.

        NaN in an integer becomes `invalid`, or what stands for the physical 0 where that is None.
        """
        for source, target in self._blocks(voxels, stored, box):
            if self.dtype.kind == "f":
                np.copyto(target, source, casting="unsafe")
            else:
                target[...] = self._integers(source, invalid)

    def _blocks(
        self, voxels: NDArray[Any], stored: NDArray[Any], box: Box
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Matching blocks of both arrays, small enough for the cache: their axes run in opposite directions."""
        channels = voxels.reshape(self.frames, self.components, *box.shape)
        view = stored[(slice(None), *box.slices, slice(None))]
        steps = (min(_BLOCK, box.shape[0]) or 1, box.shape[1] or 1, min(_BLOCK, box.shape[2]) or 1)
        for frame in range(self.frames):
            for block in Box.whole(box.shape).split(steps):
                index = (slice(None), *block.slices)
                yield channels[frame][index], view[..., frame][index]

    def _decode(self, source: NDArray[Any], target: NDArray[np.float32]) -> None:
        if self.is_scaled:
            target[...] = np.multiply(source, self.slope, dtype=np.float64) + self.inter
        else:
            np.copyto(target, source, casting="unsafe")

    def _integers(self, physical: NDArray[np.float32], invalid: float | None) -> NDArray[Any]:
        exact = not self.is_scaled and self.dtype.itemsize <= 2
        numbers: NDArray[Any] = physical.astype(np.float32 if exact else np.float64)
        if self.is_scaled:
            numbers = (numbers - self.inter) / self.slope
        missing = np.isnan(numbers)
        if missing.any():
            numbers[missing] = -self.inter / self.slope if invalid is None else invalid
        return _saturated(np.rint(numbers), self.dtype)


def _saturated(numbers: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers as an integer type, the largest and the smallest standing for what lies beyond.

    Example:
        >>> _saturated(np.array([-3.0, 7.0, 1e30]), np.dtype(np.uint64)).tolist()
        [0, 7, 18446744073709551615]
    """
    limits = np.iinfo(dtype)
    # The largest 64-bit integers are no floats: the float nearest to them lies above, and casting it would wrap.
    top = numbers.dtype.type(limits.max)
    highest = top if int(top) <= limits.max else np.nextafter(top, numbers.dtype.type(0))
    integers: NDArray[Any] = np.clip(numbers, limits.min, highest).astype(dtype)
    if highest is not top:
        integers[numbers >= top] = limits.max
    return integers
