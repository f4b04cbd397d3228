"""FSRCNN: everything at low resolution, one transposed convolution at the end. Small and fast.

Reference: Dong, Loy, Tang 2016, "Accelerating the Super-Resolution Convolutional Neural Network", arXiv:1608.00367
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geomedsr.networks._blocks import conv, conv_transpose, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["FSRCNN", "build"]


class FSRCNN(Network):
    """Features, shrink, map, expand, transposed convolution; added to an interpolation of the input.

    `width` (d), `narrow` (s) and `layers` (m) are the paper's; `kernel` is that of the transposed convolution.
    The last layer starts at zero, so an untrained network is the interpolation `skip`.
    """

    def __init__(
        self,
        task: Task,
        width: int = 56,
        narrow: int = 12,
        layers: int = 4,
        kernel: int = 9,
        skip: str = "cubic",
    ) -> None:
        super().__init__(task, width=width, narrow=narrow, layers=layers, kernel=kernel, skip=skip)
        if kernel < max(task.factor):
            raise ValueError(f"The transposed kernel of {kernel} leaves gaps at the factor {task.factor}.")
        ndim, factor = task.ndim, task.factor
        self.skip = skip
        body: list[nn.Module] = [conv(ndim, task.channels, width, 5), nn.PReLU(width)]
        body += [conv(ndim, width, narrow, 1), nn.PReLU(narrow)]
        for _ in range(layers):
            body += [conv(ndim, narrow, narrow), nn.PReLU(narrow)]
        body += [conv(ndim, narrow, width, 1), nn.PReLU(width)]
        self.body = nn.Sequential(*body)
        for layer in self.body:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                # The paper's start. By torch's own each layer would give less than it takes, seven in a row, and with
                # a last layer of zeros a network this narrow would not begin to learn for hundreds of steps.
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        # The output is exactly factor times the input: (n - 1) f - 2 p + k + o = n f, with the kernel centred.
        padding = tuple((kernel - f + 1) // 2 for f in factor)
        extra = tuple(f - kernel + 2 * p for f, p in zip(factor, padding, strict=True))
        self.tail = conv_transpose(ndim, width, task.channels, (kernel,) * ndim, factor, padding, extra)
        zero_(self.tail)
        looks = [max((f - 1 + p) // f, (kernel - 1 - p) // f) for f, p in zip(factor, padding, strict=True)]
        self.reach = tuple(max(2 + layers + r, KERNELS[skip][1]) for r in looks)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        correction: Tensor = self.tail(self.body(x))
        return upsample(x, self.skip, self.task.factor) + correction


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return FSRCNN(task, **settings)
