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
from geomedsr.io._coding import Coding

__all__ = ["Buffer", "Layout"]

Buffer = mmap | NDArray[np.uint8]
"""A file's bytes, mapped or in memory."""

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """The stored array: components (of a colour) fastest, then i, j, k, then frames.

    `coding` is that of one component, its dtype has the file's byte order; the first voxel is at byte `offset`.
    """

    shape: Shape
    frames: int
    components: int
    coding: Coding
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all voxels."""
        return self.frame_bytes * self.frames

    @property
    def slab_bytes(self) -> int:
        """The bytes of one index of k in one frame."""
        return self.components * self.shape[0] * self.shape[1] * self.coding.dtype.itemsize

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame."""
        return self.slab_bytes * self.shape[2]

    def stored(self, buffer: Buffer) -> NDArray[Any]:
        """A view of the stored numbers in a file's bytes.

        Shape: (components, i, j, k, frames)
        """
        shape = (self.components, *self.shape, self.frames)
        return np.ndarray(shape, self.coding.dtype, buffer, self.offset, order="F")

    def touched(self, box: Box) -> int:
        """At most how many bytes a box brings into memory: the system maps far more than it is asked for."""
        return box.shape[2] * self.slab_bytes * self.frames

    def decoded(self, stored: NDArray[Any], box: Box) -> Voxels:
        """The physical voxels of a box: (frames * components, *box.shape)."""
        voxels = np.empty((self.frames * self.components, *box.shape), dtype=np.float32)
        for target, source in self._blocks(voxels, stored, box):
            target[...] = self.coding.physical(source)
        return voxels

    def encode(self, voxels: Voxels, stored: NDArray[Any], box: Box) -> None:
        """Puts physical voxels into a box of `stored`."""
        for source, target in self._blocks(voxels, stored, box):
            target[...] = self.coding.store(source)

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
