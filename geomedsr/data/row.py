"""Images laid end to end in one row of numbers, and the boxes taken out of it.

A box is a place in the row and a step along each axis: a flip is a negative step, a turn exchanges two steps, and one
gather takes the boxes of a whole batch from images of any shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from geomedsr.data.subject import Subject
from geomedsr.grid import Shape
from geomedsr.image import Voxels

__all__ = ["Row", "Table", "cut_boxes", "gathered", "numbers_on"]


@dataclass(frozen=True)
class Table:
    """Where each subject's image lies in the row, and how far apart its voxels are.

    Shape: (N,), (N,), (N, 1), (N, ndim)
    """

    offset: Tensor
    channel: Tensor
    planes: Tensor
    steps: Tensor


class Row:
    """The numbers of all images, end to end. It begins with a 1, which stands for masks and coarse images not there."""

    def __init__(self) -> None:
        self.parts: list[Voxels] = [np.ones(1, np.float32)]
        self.length = 1

    def table(self, images: Sequence[Voxels | None], subjects: Sequence[Subject], device: torch.device) -> Table:
        """Lays the images down."""
        rows = [self._line(image, subject) for image, subject in zip(images, subjects, strict=True)]
        return Table(*(torch.tensor(column, device=device) for column in zip(*rows, strict=True)))

    def _line(self, image: Voxels | None, subject: Subject) -> tuple[int, int, list[int], list[int]]:
        """Where an image begins, and its steps: from channel to channel, across planes, along a patch's axes."""
        if image is None:
            return 0, 0, [0], [0] * len(subject.axes)
        offset, self.length = self.length, self.length + image.size
        others = [axis for axis in range(image.ndim - 1) if axis not in subject.axes]
        # Plane by plane, so that what a patch takes lies together.
        laid = image.transpose(0, *(1 + axis for axis in (*others, *subject.axes)))
        self.parts.append(laid.reshape(-1))
        channel, *steps = (math.prod(laid.shape[axis + 1 :]) for axis in range(laid.ndim))
        return offset, channel, [*steps[: len(others)], 0][:1], steps[len(others) :]


@lru_cache(maxsize=64)
def numbers_on(values: tuple[int, ...], device: torch.device) -> Tensor:
    """The numbers on the device; sent there once, as sending waits for all that the device has to do."""
    return torch.tensor(values, device=device)


def gathered(row: Tensor, base: Tensor, channel: Tensor, steps: Tensor, channels: int, shape: Shape) -> Tensor:
    """Boxes out of a row of numbers: where each begins, and its step from channel to channel and along each axis.

    Shape: (B,), (B,), (B, ndim) to (B, channels, *shape)
    """
    if row.device.type == "cpu":
        return _copied(row, base, torch.cat([channel.reshape(-1, 1), steps], 1), (channels, *shape))
    index = base[:, None] + channel[:, None] * torch.arange(channels, device=row.device)
    for axis, n in enumerate(shape):
        along = steps[:, axis, None] * torch.arange(n, device=row.device)
        index = index[..., None] + along.reshape(len(along), *[1] * (index.ndim - 1), n)
    return row.take(index)


def _copied(row: Tensor, base: Tensor, steps: Tensor, shape: Shape) -> Tensor:
    """The same by the processor, which copies out of strided views faster than from a list of places.

    Shape: (B,), (B, 1 + ndim) to (B, *shape), channels first
    """
    voxels, boxes = row.numpy(), np.empty((len(base), *shape), np.float32)
    size = voxels.itemsize
    for box, first, step in zip(boxes, base.tolist(), steps.tolist(), strict=True):
        box[...] = np.ndarray(shape, voxels.dtype, voxels, first * size, [size * n for n in step])
    return torch.from_numpy(boxes)


def cut_boxes(x: Tensor, start: Tensor, shape: Shape) -> Tensor:
    """A box of each image of a batch, each from a start of its own."""
    x = x.contiguous()
    steps = numbers_on(x.stride()[2:], x.device).expand(len(x), -1)
    base = torch.arange(len(x), device=x.device) * x.stride(0) + (start * steps).sum(1)
    channel = torch.full_like(base, x.stride(1))
    return gathered(x.reshape(-1), base, channel, steps, x.shape[1], shape)
