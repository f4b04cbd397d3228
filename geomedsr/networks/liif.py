"""LIIF: features on the coarse grid, and a small network that is asked for the image at any place between them.

Reference: Chen, Liu, Wang 2021, "Learning Continuous Image Representation with Local Implicit Image Function",
arXiv:2012.09161
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from geomedsr.grid import Shape
from geomedsr.networks._blocks import ResidualBlock, conv, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["LIIF", "build", "interpolated", "places"]


def places(coarse: int, fine: int) -> tuple[Tensor, Tensor]:
    """Where the centres of `fine` voxels lie among the centres of `coarse` ones of the same extent.

    The index of the coarse centre before each (-1 where there is none) and the way to the next, in [0, 1). Both come
    from whole numbers and one division, so equal phases are equal bits wherever they are.

    Shape: (fine,) int64 and (fine,) float64

    Example:
        >>> [part.tolist() for part in places(2, 4)]
        [[-1, 0, 0, 1], [0.75, 0.25, 0.75, 0.25]]
    """
    doubled = (2 * torch.arange(fine, dtype=torch.int64) + 1) * coarse - fine
    before = doubled.div(2 * fine, rounding_mode="floor")
    return before, (doubled - before * 2 * fine).double() / (2 * fine)


def _taken(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Voxels along an axis; beyond the border it is the border's."""
    return x.index_select(axis, index.clamp(0, x.shape[axis] - 1).to(x.device))


def _along(values: Tensor, axis: int, like: Tensor) -> Tensor:
    view = [1] * like.ndim
    view[axis] = -1
    return values.to(like).reshape(view)


def interpolated(x: Tensor, kernel: str, shape: Shape) -> Tensor:
    """The image on any finer grid of the same extent; where the factor is whole, what `upsample` gives.

    Shape: (B, C, *S) to (B, C, *shape)
    """
    weight, support = KERNELS[kernel]
    for axis, fine in enumerate(shape, start=2):
        before, way = places(x.shape[axis], fine)
        offsets = range(1 - max(support, 1), max(support, 1) + 1)
        table = torch.tensor([[weight(k - w) for w in way.tolist()] for k in offsets], dtype=torch.float64)
        table /= table.sum(0)
        x = sum(
            (_taken(x, axis, before + k) * _along(w, axis, x) for k, w in zip(offsets, table, strict=True)),
            start=torch.zeros((), dtype=x.dtype, device=x.device),
        )
    return x


class LIIF(Network):
    """EDSR's features, and for each fine voxel the answers of the coarse voxels around it, weighted by nearness.

    The defaults are the paper's. A question is the features of a voxel and its neighbours, the way from it to the
    fine voxel, and the fine voxel's size. Its first layer is linear, so the features' share is one convolution on the
    coarse grid. The last layer starts at zero, so an untrained network is the interpolation `skip`.

    `forward` answers for the task's factor, `resampled` for any finer grid.
    """

    def __init__(
        self,
        task: Task,
        width: int = 64,
        blocks: int = 16,
        hidden: int = 256,
        layers: int = 3,
        skip: str = "cubic",
    ) -> None:
        super().__init__(task, width=width, blocks=blocks, hidden=hidden, layers=layers, skip=skip)
        ndim = task.ndim
        self.skip = skip
        self.head = conv(ndim, task.channels, width)
        self.body = nn.Sequential(*[ResidualBlock(ndim, width) for _ in range(blocks)])
        self.join = conv(ndim, width, width)
        self.around = conv(ndim, width, hidden)
        self.way = nn.Linear(ndim, hidden, bias=False)
        self.size = nn.Linear(ndim, hidden, bias=False)
        self.answer = nn.Sequential()
        for _ in range(layers):
            self.answer.extend([nn.ReLU(), conv(ndim, hidden, hidden, 1)])
        self.answer.extend([nn.ReLU(), zero_(conv(ndim, hidden, task.channels, 1))])
        # Head, two for each block, join, the convolution around, and the neighbour that is asked.
        looks = [3 + 2 * blocks + (f > 1) for f in task.factor]
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        shape = tuple(n * f for n, f in zip(x.shape[2:], self.task.factor, strict=True))
        return upsample(x, self.skip, self.task.factor) + self._correction(x, shape)

    def resampled(self, x: Tensor, shape: Shape) -> Tensor:
        """The image on any grid of the same extent that is at least as fine.

        Shape: (B, C, *S) to (B, C, *shape)

        Raises:
            ValueError: an axis would become coarser.
        """
        if len(shape) != self.task.ndim or any(m < n for n, m in zip(x.shape[2:], shape, strict=True)):
            raise ValueError(f"An image of {tuple(x.shape[2:])} voxels cannot be made finer to {tuple(shape)}.")
        return interpolated(x, self.skip, shape) + self._correction(x, shape)

    def _correction(self, x: Tensor, shape: Shape) -> Tensor:
        features = self.head(x)
        known = self.around(features + self.join(self.body(features)))
        axes = [places(n, m) for n, m in zip(x.shape[2:], shape, strict=True)]
        size = torch.tensor([2 * n / m for n, m in zip(x.shape[2:], shape, strict=True)])
        known = known + self.size(size.to(x)).reshape(-1, *[1] * self.task.ndim)
        # Where every fine voxel is a coarse one, there is one to ask on that axis; elsewhere two.
        asked = [range(2 if bool(way.any()) else 1) for _, way in axes]
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for corner in product(*asked):
            total = total + self._asked(known, axes, corner)
        return total

    def _asked(self, known: Tensor, axes: list[tuple[Tensor, Tensor]], corner: Shape) -> Tensor:
        """The answers of one of the coarse voxels around each fine one, times their weights."""
        question, ways = known, self.way.weight.to(known.dtype)
        for axis, ((before, _), step) in enumerate(zip(axes, corner, strict=True)):
            question = _taken(question, axis + 2, before + step)
        for axis, ((_, way), step) in enumerate(zip(axes, corner, strict=True)):
            column = ways[:, axis].reshape(-1, *[1] * (known.ndim - 2))
            question = question + column * _along(2 * (way - step), axis + 2, known)
        answer: Tensor = self.answer(question)
        for axis, ((_, way), step) in enumerate(zip(axes, corner, strict=True)):
            answer = answer * _along(way if step else 1 - way, axis + 2, answer)
        return answer


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return LIIF(task, **settings)
