"""Images that are computed from others while they are read: an interpolation, a difference, some channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from geomedsr.grid import Box, Factor
from geomedsr.image import ImageSpec, Source, Voxels

__all__ = ["Cubic", "Difference"]

_REACH = 2


@dataclass
class Cubic:
    """The channels `index` of a source, made `factor` times finer by cubic interpolation; itself a Source."""

    source: Source
    factor: Factor
    index: tuple[int, ...]

    @cached_property
    def spec(self) -> ImageSpec:
        """The spec of the finer image."""
        return self.source.spec.with_channels(self.index).upscaled(self.factor)

    def read(self, box: Box) -> Voxels:
        """The voxels of a box; those that an invalid voxel has a part in are invalid."""
        import torch

        from geomedsr.networks.interpolate import upsample

        inside = Box(
            tuple(a // f for a, f in zip(box.start, self.factor, strict=True)),
            tuple(-(-b // f) for b, f in zip(box.stop, self.factor, strict=True)),
        )
        around = inside.grown(tuple(_REACH * (f > 1) for f in self.factor)).clipped(self.source.spec.grid.shape)
        coarse = torch.from_numpy(np.ascontiguousarray(self.source.read(around)[list(self.index)]))
        fine = upsample(coarse[None], "cubic", self.factor)[0].numpy()
        kept = box.relative_to(around.scaled(self.factor).start)
        return np.asarray(fine[(slice(None), *kept.slices)], dtype=np.float32)

    def close(self) -> None:
        """Lets go of the source's handles."""
        self.source.close()


@dataclass
class Difference:
    """One source minus another of the same grid and number of channels; itself a Source."""

    source: Source
    other: Source

    @property
    def spec(self) -> ImageSpec:
        """The spec of the first, in float32."""
        return replace(self.source.spec, dtype=np.dtype(np.float32), nodata=None, scaling=(), has_holes=True)

    def read(self, box: Box) -> Voxels:
        """The voxels of a box, invalid where either is."""
        return self.source.read(box) - self.other.read(box)

    def close(self) -> None:
        """Lets go of both sources' handles."""
        self.source.close()
        self.other.close()
