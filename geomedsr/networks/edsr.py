"""EDSR: residual blocks without normalisation at low resolution, pixel shuffle at the end.

Reference: Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution", arXiv:1707.02921
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from geomedsr.networks._blocks import ResidualBlock, Upsampler, ceil_reach, conv, upsampler_reach, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["EDSR", "build"]


class EDSR(Network):
    """Head, residual blocks, upsampler, tail; added to an interpolation of the input.

    The defaults are the paper's baseline. The last layer starts at zero, so an untrained network is the
    interpolation `skip`.
    """

    def __init__(self, task: Task, width: int = 64, blocks: int = 16, scale: float = 1.0, skip: str = "cubic") -> None:
        super().__init__(task, width=width, blocks=blocks, scale=scale, skip=skip)
        ndim = task.ndim
        self.skip = skip
        self.head = conv(ndim, task.channels, width)
        self.body = nn.Sequential(*[ResidualBlock(ndim, width, scale) for _ in range(blocks)])
        self.join = conv(ndim, width, width)
        self.upsampler = Upsampler(ndim, width, task.factor)
        self.tail = zero_(conv(ndim, width, task.channels))
        body = [Fraction(2 + 2 * blocks)] * ndim
        looks = ceil_reach(body, upsampler_reach(task.factor))
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        features = self.head(x)
        features = features + self.join(self.body(features))
        correction: Tensor = self.tail(self.upsampler(features))
        return upsample(x, self.skip, self.task.factor) + correction


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return EDSR(task, **settings)
