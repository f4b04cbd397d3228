"""RRDB: dense blocks inside residual blocks, ESRGAN's generator. Large and slow; the sharpest of the convolutions.

Reference: Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", arXiv:1809.00219
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geomedsr.networks._blocks import RRDB, NearestUpsampler, ceil_reach, conv, nearest_reach, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["RRDBNet", "build"]


class RRDBNet(Network):
    """Head, residual-in-residual dense blocks, nearest neighbour and convolution; added to an interpolation.

    The defaults are the paper's. The last layer starts at zero, so an untrained network is the interpolation `skip`.
    The reach grows by 15 voxels with each block: 23 blocks want large tiles.
    """

    def __init__(self, task: Task, width: int = 64, blocks: int = 23, growth: int = 32, skip: str = "cubic") -> None:
        super().__init__(task, width=width, blocks=blocks, growth=growth, skip=skip)
        ndim = task.ndim
        self.skip = skip
        self.head = conv(ndim, task.channels, width)
        self.body = nn.Sequential(*[RRDB(ndim, width, growth) for _ in range(blocks)])
        self.join = conv(ndim, width, width)
        self.upsampler = NearestUpsampler(ndim, width, task.factor)
        self.fine = conv(ndim, width, width)
        self.tail = zero_(conv(ndim, width, task.channels))
        body = [Fraction(2 + RRDB.reach * blocks)] * ndim
        looks = ceil_reach(body, nearest_reach(task.factor))
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        features = self.head(x)
        features = features + self.join(self.body(features))
        fine = functional.leaky_relu(self.fine(self.upsampler(features)), 0.2)
        correction: Tensor = self.tail(fine)
        return upsample(x, self.skip, self.task.factor) + correction


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return RRDBNet(task, **settings)
