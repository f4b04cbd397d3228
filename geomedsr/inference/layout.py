"""How an image meets a network: which axes it works on, and what becomes of the other axes and the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.data.sampling import planar_axes
from geomedsr.errors import ModelError
from geomedsr.grid import Shape
from geomedsr.image import ImageSpec, Voxels
from geomedsr.task import Task

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """An image's voxels as a network's batch, and back.

    A planar network sees the slices of a volume as a batch; a network of one channel sees each channel alone, as part
    of the batch, too. `axes` are the network's axes in the image, `ndim` counts the image's.
    """

    axes: tuple[int, ...]
    ndim: int
    channels: int
    seen: int

    @property
    def others(self) -> tuple[int, ...]:
        """The image's axes that the network does not see."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.axes)

    def on_image(self, values: Shape, elsewhere: int) -> Shape:
        """A value for each of the network's axes as one for each of the image's."""
        table = dict(zip(self.axes, values, strict=True))
        return tuple(table.get(axis, elsewhere) for axis in range(self.ndim))

    def batch_shape(self, window: Shape) -> Shape:
        """(B, C, *S) of a window of the image."""
        alone = self.channels // self.seen
        slices = int(np.prod([window[axis] for axis in self.others], dtype=np.int64))
        return (slices * alone, self.seen, *(window[axis] for axis in self.axes))

    def to_batch(self, voxels: Voxels) -> Voxels:
        """(C, *S) of the image to (B, C, *S) of the network; contiguous."""
        return np.ascontiguousarray(self.as_batch(voxels))

    def as_batch(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The same in whatever order they lie: a view where there is one."""
        order = (*(axis + 1 for axis in self.others), 0, *(axis + 1 for axis in self.axes))
        return numbers.transpose(order).reshape(self.batch_shape(numbers.shape[1:]))

    def from_batch(self, batch: Voxels, slices: Shape) -> Voxels:
        """(B, C, *S) of the network to (C, *S) of the image, a view; `slices` are the lengths of the other axes."""
        unfolded = batch.reshape(*slices, self.channels, *batch.shape[2:])
        order = (*(axis + 1 for axis in self.others), 0, *(axis + 1 for axis in self.axes))
        back = np.argsort(order)
        return unfolded.transpose(*back)


def layout_of(task: Task, spec: ImageSpec, axes: tuple[int, ...] | None = None) -> Layout:
    """The layout of an image for a task; a planar task on a volume leaves out the axis of the coarsest spacing.

    Raises:
        ModelError: the network does not fit the image.
    """
    ndim, channels = spec.grid.ndim, len(spec.channels)
    if task.guide:
        raise ModelError(f"The network wants {task.guide} channels of a finer guide image, which cannot be given here.")
    if task.channels not in (1, channels):
        raise ModelError(f"The network takes {task.channels} channels together; the image has {channels}.")
    if task.ndim > ndim:
        raise ModelError(f"The network works on volumes of {task.ndim} axes; the image has {ndim}.")
    if axes is None:
        axes = planar_axes(spec.grid.spacing, spec.grid.shape) if (task.ndim, ndim) == (2, 3) else tuple(range(ndim))
    fits = len(axes) == task.ndim and list(axes) == sorted(set(axes)) and all(0 <= axis < ndim for axis in axes)
    if not fits:
        raise ModelError(f"The network works on {task.ndim} of the image's {ndim} axes, in order; got the axes {axes}.")
    return Layout(axes, ndim, channels, task.channels)
