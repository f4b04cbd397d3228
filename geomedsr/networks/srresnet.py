"""SRResNet: SRGAN's generator, wide kernels at both ends and residual blocks between them.

Reference: Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
arXiv:1609.04802
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.networks._blocks import PixelShuffle, ResidualBlock, ceil_reach, conv, stages, upsampler_reach, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["BatchNorm", "SRResNet", "build"]


class BatchNorm(nn.Module):
    """Batch normalisation for any number of axes, whose whole state is floating point.

    (PyTorch's own counts its batches in an integer, which a moving average of the weights cannot hold.)

    Shape: (B, width, *S) to the same
    Reference: Ioffe and Szegedy 2015, arXiv:1502.03167
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The batch's own statistics in training, the remembered ones afterwards."""
        return functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training, self.momentum)


class NormalisedBlock(nn.Module):
    """Two normalised convolutions and a skip.

    Shape: (B, width, *S) to the same
    """

    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(ndim, width, width), BatchNorm(width), nn.PReLU(), conv(ndim, width, width), BatchNorm(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The input and a correction."""
        correction: Tensor = self.layers(x)
        return x + correction


class SRResNet(Network):
    """Head, residual blocks, pixel shuffle, tail; added to an interpolation of the input.

    The defaults are the paper's. With `norm` false the blocks are EDSR's: normalisation blurs what brightness means,
    and physical units are better off without. `kernel` is that of head and tail. The last layer starts at zero, so an
    untrained network is the interpolation `skip`.
    """

    def __init__(
        self,
        task: Task,
        width: int = 64,
        blocks: int = 16,
        kernel: int = 9,
        norm: bool = True,
        skip: str = "cubic",
    ) -> None:
        super().__init__(task, width=width, blocks=blocks, kernel=kernel, norm=norm, skip=skip)
        ndim = task.ndim
        self.skip = skip
        block = NormalisedBlock if norm else ResidualBlock
        self.head = nn.Sequential(conv(ndim, task.channels, width, kernel), nn.PReLU())
        self.body = nn.Sequential(*[block(ndim, width) for _ in range(blocks)])
        self.body.append(conv(ndim, width, width))
        if norm:
            self.body.append(BatchNorm(width))
        finer: list[nn.Module] = []
        for step in stages(task.factor):
            finer += [conv(ndim, width, width * math.prod(step)), PixelShuffle(step), nn.PReLU()]
        self.upsampler = nn.Sequential(*finer)
        self.tail = zero_(conv(ndim, width, task.channels, kernel))
        body = [Fraction(kernel // 2 + 2 * blocks + 1)] * ndim
        looks = ceil_reach(body, upsampler_reach(task.factor, kernel // 2))
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        features = self.head(x)
        features = features + self.body(features)
        correction: Tensor = self.tail(self.upsampler(features))
        return upsample(x, self.skip, self.task.factor) + correction


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return SRResNet(task, **settings)
