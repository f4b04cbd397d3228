"""SPSR: a second branch predicts where the edges of the fine image are, and its features guide the first.

The two are fused before the upsampling rather than after it as in the paper, where most of the time goes into one
block on the fine grid.

Reference: Ma et al. 2020, "Structure-Preserving Super Resolution with Gradient Guidance", arXiv:2003.13081
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.networks._blocks import RRDB, NearestUpsampler, ceil_reach, conv, nearest_reach, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["SPSR", "build", "gradient_magnitude"]


def gradient_magnitude(x: Tensor) -> Tensor:
    """The length of each channel's gradient, by central differences; the border voxels are repeated outwards.

    Shape: (B, C, *S) to the same
    Units: the image's, per two voxels
    """
    ndim = x.ndim - 2
    padded = functional.pad(x, (1, 1) * ndim, mode="replicate")
    total = torch.full_like(x, 1e-6)  # a root has no gradient at zero
    for axis in range(2, x.ndim):
        inner = padded
        for other in range(2, x.ndim):
            if other != axis:
                inner = inner.narrow(other, 1, x.shape[other])
        length = x.shape[axis]
        total = total + (inner.narrow(axis, 2, length) - inner.narrow(axis, 0, length)).square()
    return total.sqrt()


class Fuse(nn.Sequential):
    """Two sets of features side by side, made one.

    Shape: (B, 2 * width, *S) to (B, width, *S)
    """

    reach = RRDB.reach + 1

    def __init__(self, ndim: int, width: int, growth: int) -> None:
        super().__init__(RRDB(ndim, 2 * width, growth), conv(ndim, 2 * width, width))


class SPSR(Network):
    """A trunk of residual-in-residual dense blocks and a gradient branch that taps it; added to an interpolation.

    `taps` is how often the branch takes up the trunk's features. The last layer starts at zero, so an untrained
    network is the interpolation `skip`, and the branch's map that of the input's gradient.

    In training each forward pass leaves the branch's map of the fine image's gradient in `gradient`, where
    `gradient_loss` finds it. Elsewhere the map is not computed, and `gradient` is None.
    """

    gradient: Tensor | None

    def __init__(
        self,
        task: Task,
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        taps: int = 4,
        skip: str = "cubic",
    ) -> None:
        super().__init__(task, width=width, blocks=blocks, growth=growth, taps=taps, skip=skip)
        if not 1 <= taps <= blocks:
            raise ValueError(f"The gradient branch takes 1 to {blocks} taps of {blocks} blocks, not {taps}.")
        ndim = task.ndim
        self.skip, self.every, self.gradient = skip, blocks // taps, None
        self.head = conv(ndim, task.channels, width)
        self.body = nn.ModuleList([RRDB(ndim, width, growth) for _ in range(blocks)])
        self.join = conv(ndim, width, width)
        self.edge_head = conv(ndim, task.channels, width)
        self.edge_body = nn.ModuleList([Fuse(ndim, width, growth) for _ in range(taps)])
        self.edge_join = conv(ndim, width, width)
        self.edge_upsampler = NearestUpsampler(ndim, width, task.factor)
        self.edge_tail = zero_(conv(ndim, width, task.channels))
        self.fuse = Fuse(ndim, width, growth)
        self.upsampler = NearestUpsampler(ndim, width, task.factor)
        self.fine = conv(ndim, width, width)
        self.tail = zero_(conv(ndim, width, task.channels))
        looks = ceil_reach([Fraction(self._coarse_reach())] * ndim, nearest_reach(task.factor))
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def _coarse_reach(self) -> int:
        """How far the fused features look: along the trunk, or from one of the taps on along the branch."""
        edge = 2
        for tap in range(1, len(self.edge_body) + 1):
            edge = max(edge, 1 + RRDB.reach * self.every * tap) + Fuse.reach
        trunk = 1 + RRDB.reach * len(self.body)
        return max(edge, trunk) + 1 + Fuse.reach

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        slopes = gradient_magnitude(x)
        head, edge_head = self.head(x), self.edge_head(slopes)
        features, edges = head, edge_head
        for number, block in enumerate(self.body, start=1):
            features = block(features)
            tap, rest = divmod(number, self.every)
            if rest == 0 and tap <= len(self.edge_body):
                edges = self.edge_body[tap - 1](torch.cat([edges, features], 1))
        features, edges = head + self.join(features), edge_head + self.edge_join(edges)
        self.gradient = self._map(slopes, edges) if self.training else None
        finer = self.upsampler(self.fuse(torch.cat([edges, features], 1)))
        correction: Tensor = self.tail(functional.leaky_relu(self.fine(finer), 0.2))
        return upsample(x, self.skip, self.task.factor) + correction

    def _map(self, slopes: Tensor, edges: Tensor) -> Tensor:
        correction: Tensor = self.edge_tail(self.edge_upsampler(edges))
        # The same rise is spread over more voxels, so on the finer grid it is less per voxel.
        mean_factor = sum(self.task.factor) / len(self.task.factor)
        return upsample(slopes, self.skip, self.task.factor) / mean_factor + correction

    def gradient_loss(self, hr: Tensor) -> Tensor:
        """The mean absolute difference of the last training batch's map and the true image's gradient.

        Raises:
            RuntimeError: there was no forward pass in training before.
        """
        if self.gradient is None:
            raise RuntimeError("The gradient branch has a map only after a forward pass in training.")
        return (self.gradient - gradient_magnitude(hr)).abs().mean()

    def auxiliary_loss(self, hr: Tensor) -> Tensor | None:
        """The gradient branch's loss."""
        return self.gradient_loss(hr)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "gradient": None}  # a copy of the network begins without a batch


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return SPSR(task, **settings)
